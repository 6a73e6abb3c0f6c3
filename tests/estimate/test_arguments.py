"""llama-server's own words, turned into a launch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lmxd.errors import LmxdError
from lmxd.estimate.arguments import parse, words
from lmxd.estimate.companions import Adapter, DraftModel
from lmxd.gguf.launch import Launch
from lmxd.gguf.overrides import Override


def launch(flags: str, trained: int = 131072) -> Launch:
    return parse(flags).resolved(trained).launch


def test_without_flags_it_is_what_the_server_does_by_itself() -> None:
    found = launch("")
    assert (found.context, found.slots, found.unified) == (131072, 4, True)
    assert (found.batch, found.ubatch, found.cache_type_k, found.cache_type_v) == (2048, 512, "f16", "f16")
    assert (found.flash, found.gpu_layers, found.mmap) == ("auto", None, True)


@pytest.mark.parametrize(
    ("flags", "context", "slots", "unified"),
    [
        ("-c 8192 -np 1", 8192, 1, False),
        ("-c 8192 -np 4", 2048, 4, False),
        ("-c 8192 -np 4 -kvu", 8192, 4, True),
        ("-c 8192", 8192, 4, True),
        ("-c 8192 --no-kv-unified", 2048, 4, False),
        ("-c 5000 -np 3", 1792, 3, False),
        ("--ctx-size=1000 --parallel=1", 1024, 1, False),
        ("-c 0 -np 2", 65536, 2, False),
    ],
)
def test_context_and_slots(flags: str, context: int, slots: int, unified: bool) -> None:
    found = launch(flags)
    assert (found.context, found.slots, found.unified) == (context, slots, unified)


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ("-fa off", {"flash": "off"}),
        ("-ctk q8_0 -ctv q4_0", {"cache_type_k": "q8_0", "cache_type_v": "q4_0"}),
        ("-b 4096 -ub 1024", {"batch": 4096, "ubatch": 1024}),
        ("-ngl 10", {"gpu_layers": 10}),
        ("-ngl all", {"gpu_layers": None}),
        ("-ts 3,1", {"split": (3.0, 1.0)}),
        ("--swa-full -nkvo --no-op-offload", {"swa_full": True, "cache_on_device": False, "op_offload": False}),
        ("--no-mmap", {"mmap": False}),
        ("-lm none", {"mmap": False}),
        ("--embedding", {"outputs_all": True}),
        ("--rerank", {"outputs_all": True}),
        ("-ot 'exps=CPU,attn=CUDA1'", {"overrides": (Override("exps"), Override("attn", 1))}),
        ("--spec-type draft-mtp --spec-draft-n-max 2", {"mtp": True, "drafted": 2}),
    ],
)
def test_flags_that_decide_about_memory(flags: str, wanted: dict[str, Any]) -> None:
    found = launch(flags)
    assert {name: getattr(found, name) for name in wanted} == wanted


def test_experts_kept_on_the_host_are_overrides() -> None:
    (some,) = launch("-ncmoe 2").overrides
    assert some.pattern == r"blk\.(0|1)\.ffn_(up|down|gate|gate_up)_(ch|)exps"
    assert some.device is None
    assert launch("-cmoe").overrides[0].pattern.startswith(r"blk\.(\d+)")


def test_files_that_go_with_a_model() -> None:
    found = parse(
        "-mm proj.gguf --lora a.gguf,b.gguf --lora-scaled c.gguf:0.5 -md draft.gguf -ngld 3 --no-mmproj-offload"
    )
    beside = found.companions
    assert beside.projector == Path("proj.gguf")
    assert not beside.projector_on_device
    assert beside.adapters == (
        Adapter(path=Path("a.gguf")),
        Adapter(path=Path("b.gguf")),
        Adapter(path=Path("c.gguf"), scale=0.5),
    )
    assert beside.draft == DraftModel(path=Path("draft.gguf"), gpu_layers=3)
    assert found.launch.drafted > 0


def test_what_is_not_known_is_named_and_not_mistaken() -> None:
    found = parse("--jinja --temp -0.5 --alias 'my model' -c 4096 --port 80 -np 1")
    assert found.ignored == ("--jinja", "--temp", "--alias", "--port")
    assert (found.context, found.launch.slots) == (4096, 1)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("-c", "-c needs a value"),
        ("-c lots", "--ctx-size 'lots' is not a number"),
        ("-c -5", "--ctx-size '-5' is not a number from 0"),
        ("-np 999", "--parallel '999'"),
        ("-ctk q9", "--cache-type-k 'q9' is none of f32, f16"),
        ("-fa maybe", "--flash-attn 'maybe' is none of auto, on, off"),
        ("-ot exps", "is not PATTERN=PLACE"),
        ("-ot '(=CPU'", "--override-tensor"),
        ("-ts a,b", "no list of shares"),
        ("-sm row", "does not cover --split-mode row: build 11434 splits by rows on SYCL alone"),
        ("-sm tensor", "does not cover --split-mode tensor: it makes one device of all cards"),
        ("stray", "'stray' is no flag"),
        ("-c '4096", "No closing quotation"),
    ],
)
def test_what_cannot_be_is_named(flags: str, message: str) -> None:
    with pytest.raises(LmxdError) as caught:
        parse(flags)
    assert caught.value.code == "invalid_params"
    assert message in caught.value.message


@pytest.mark.parametrize(
    "flags",
    [
        "-c 8192 -np 1 -ctk q8_0 -ctv q8_0 -ub 2048 -fa on",
        "-c 16384 -np 4 -kvu -ngl 7 --no-op-offload -nkvo",
        "-c 4096 -np 2 -ts 3,1 -ncmoe 2 --swa-full --embedding",
    ],
)
def test_words_and_back(flags: str) -> None:
    found = launch(flags)
    assert launch(" ".join(f"'{word}'" for word in words(found))) == found
