"""What clients of the gateway may not reach of an instance: slots, and all by which it reads or writes files."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest
from house import House, model
from hypothesis import given
from hypothesis import strategies as st

from gateway.front import Front
from lmxd.errors import LmxdError
from lmxd.gateway.requests.shut import require_open

SHUT = [
    "slots/0?action=save",
    "slots/0?action=restore",
    "slots/0?action=erase",
    "slots/0",
    "slots",
    "//slots/0?action=save",
    "/./slots/0?action=save",
    "x/../slots/0?action=save",
    "%73lots/0?action=save",
    "%2573lots/0?action=save",
    "slots%2F0?action=save",
    "%2fslots%2f0?action=save",
    "SLOTS/0?action=save",
    "slots;x/0?action=save",
    "slots.//0?action=save",
    "slots%00/0?action=save",
    "slots\\0?action=save",
    "v1/slots/0?action=save",
    "slots?/0&action=save",
    "lora-adapters",
    "props",
    "v1/stream?conv_id=x",
    "v1/streams/lookup",
    "tools",
    "cors-proxy?url=http://localhost",
    "models/load",
    "models/unload",
    "abort_request",
    "abort_requests",
    "start_weight_update",
    "start_draft_weight_update",
    "finish_weight_update",
    "shutdown_weight_transfer_engine",
    "init_weights_update_group",
    "send_weights_to_remote_instance",
    "get_weights_by_name?name=x",
    "weight_checker",
    "weight_info",
    "fault_tolerance/apply",
    "is_scaling_elastic_ep",
    "scale_elastic_ep",
    "flush_cache",
    "Flush%5fCache?timeout=1",
    "release_memory_occupation",
    "resume_memory_occupation",
    "update_weights_from_disk",
    "update_weights",
    "v1/load_lora_adapter",
    "v1/unload_lora_adapter",
    "sleep?level=1",
    "wake_up",
    "is_sleeping",
    "release_kv_cache_memory",
    "server_info?config_format=json",
    "reset_prefix_cache",
    "start_profile",
    "stop_profile",
    "shutdown",
    "collective_rpc",
    "v1/chat/completions/control",
    "%" + "25" * 20 + "73lots/0",
]
OPEN = [
    ("GET", "slots"),
    ("GET", "props"),
    ("GET", "health"),
    ("GET", "v1/models"),
    ("GET", "models?x=1"),
    ("POST", "completion"),
    ("POST", "v1/rerank?query=weights"),
    ("POST", "v1/chat/completions"),
    ("POST", "tokenize"),
    ("POST", "infill"),
    ("POST", "v1/rerank"),
    ("GET", "metrics"),
]


@pytest.mark.parametrize("path", SHUT)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "post", "X"])
def test_it_is_shut_however_it_is_written(method: str, path: str) -> None:
    with pytest.raises(LmxdError) as refused:
        require_open(method, path)
    assert refused.value.code == "not_permitted"


@pytest.mark.parametrize("path", ["flush_cache", "start_profile", "abort_request", "update_weights_from_disk"])
def test_some_engines_act_on_a_get_too(path: str) -> None:
    with pytest.raises(LmxdError):
        require_open("GET", path)


@pytest.mark.parametrize(("method", "path"), OPEN)
def test_the_rest_is_open(method: str, path: str) -> None:
    require_open(method, path)


@given(
    before=st.sampled_from(["", "/", "//", "./", "x/../", "v1/", "%2e/", "%2F"]),
    letters=st.lists(st.integers(0, 3), min_size=5, max_size=5),
    after=st.sampled_from(["", "/", "/0", "%2f0", "//0", "/0/", "?", "/0?action=save", "/0%3Faction=save", ".", "%20"]),
)
def test_no_spelling_of_slots_is_open(before: str, letters: list[int], after: str) -> None:
    spelt = ""
    for letter, how in zip("slots", letters, strict=True):
        coded = f"%{ord(letter):02x}"
        spelt += (letter, letter.upper(), coded, quote(coded))[how]
    with pytest.raises(LmxdError):
        require_open("POST", before + spelt + after)


async def test_it_never_comes_to_an_instance(tmp_path: Path) -> None:
    model(tmp_path, "a")
    house = House(
        tmp_path,
        models={"a": {"estimated_memory_gb": 0.2, "suspend": True}},
        gpu={"device": "host", "max_memory_gb": 1},
        engine={"prompt_cache_gb": 1},
    )
    async with house.open(), Front(house).open() as front:
        for path in ("slots/0?action=save", "%73lots/0?action=restore", "slots%2F0?action=erase"):
            answer = await front.ask(f"/upstream/a/{path}", {"filename": "slot-0.bin"})
            assert answer.status == 403
            assert json.loads(answer.text)["error"]["code"] == "not_permitted"
        assert house.phases() == {}, "nothing was started for it either"
