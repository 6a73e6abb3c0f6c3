"""A refusal over HTTP names what its client can do: no option of lmxctl, no wait that may not be."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
import ollama
import openai
import pytest
from devices.fake_nvml import FakeNvml
from house import House, card, model
from sources import parsed

import lmxd.gateway
from gateway.front import Front, opened, read_until
from gateway.test_error_formats import TURN, of_anthropic, of_openai
from gateway.test_serving import ONE, house
from lmxd.errors import EXIT_STATUS, LmxdError
from lmxd.gateway.leasing.leases import LeaseWish
from lmxd.gateway.leasing.models import KnownModels
from lmxd.gateway.leasing.remedies import Remedies, said

AT_ONCE = {"Prefer": "wait=0"}
COMMAND = re.compile(r"lmxctl|--[a-z]|lmxd (?:key|pull|setup|import)")


@asynccontextmanager
async def busy(here: House, **settings: Any) -> AsyncIterator[Front]:
    """Somebody has all of ``a``."""
    model(here.directory, "a", token_seconds=0.05)
    async with opened(here, **settings) as front, front.stream("a", 400) as first:
        await read_until(first, "data:")
        yield front


async def refused(front: Front, wanted: str, **headers: str) -> dict[str, Any]:
    answer = await front.ask("/v1/chat/completions", {"model": wanted, "messages": []}, **headers)
    assert answer.status == 429, answer.text
    assert int(answer.headers["Retry-After"]) >= 1
    error: dict[str, Any] = json.loads(answer.text)["error"]
    assert not COMMAND.search(error["message"]), error["message"]
    return error


async def test_who_would_not_wait_may_wait_as_long_as_the_gateway_allows(tmp_path: Path) -> None:
    async with busy(house(tmp_path), wait=70) as front:
        error = await refused(front, "b", **AT_ONCE)
    assert error["code"] == "no_capacity"
    assert "12.00 GiB are needed on" in error["message"]
    assert "held by a#1 12.00" in error["message"]
    assert "wait longer (Prefer: wait=SECONDS, 70 at most)" in error["message"]
    assert "have an administrator end a#1" in error["message"]
    assert "context" not in error["message"], "no request of this API has one"


@pytest.mark.parametrize(("wait", "prefer"), [(0, {}), (0, {"Prefer": "wait=600"}), (1, {"Prefer": "wait=600"})])
async def test_who_waited_as_long_as_may_be_is_not_told_to_wait_longer(
    tmp_path: Path, wait: float, prefer: dict[str, str]
) -> None:
    async with busy(house(tmp_path), wait=wait) as front:
        error = await refused(front, "b", **prefer)
    assert error["code"] == ("wait_expired" if wait else "no_capacity")
    assert "wait longer" not in error["message"]
    assert f"have gateway.wait raised, by which no request waits for more than {wait} s" in error["message"]


async def test_without_a_bound_of_the_gateways_any_wait_helps(tmp_path: Path) -> None:
    async with busy(house(tmp_path), wait=None) as front:
        assert "wait longer (Prefer: wait=SECONDS)" in (await refused(front, "b", **AT_ONCE))["message"]


async def test_a_model_that_fits_now_is_named_and_none_that_does_not(tmp_path: Path) -> None:
    small, large = {"estimated_memory_gb": 2}, {"estimated_memory_gb": 11}
    models = {"a": ONE, "b": ONE, "small": small, "smaller": {"estimated_memory_gb": 1}, "large": large}
    async with busy(House(tmp_path, FakeNvml(card()), models=models)) as front:
        message = (await refused(front, "b", **AT_ONCE))["message"]
    assert "ask for small, which fits now" in message
    assert "large" not in message


async def test_slots_that_would_help_are_named(tmp_path: Path) -> None:
    async with busy(house(tmp_path)) as front:
        message = (await refused(front, "a", **AT_ONCE))["message"]
    assert "all slots of a#1 are taken" in message
    assert "have slots: 2 in its profile, with which one instance serves both" in message


async def test_a_smaller_context_is_named_where_one_was_asked_for(tmp_path: Path) -> None:
    models = {"a": {"estimated_memory_gb": 1.2}, "b": {"context_length": 512}}
    async with busy(House(tmp_path, FakeNvml(card(2)), models=models)) as front:
        for context, helps in ((8192, True), (512, False)):
            body = {"model": "b", "options": {"num_ctx": context}, "messages": []}
            answer = await front.ask("/api/chat", body, **AT_ONCE)
            assert answer.status == 429
            assert ("ask for a smaller num_ctx" in json.loads(answer.text)["error"]) is helps


async def test_a_model_that_never_fits_names_no_context_that_nobody_can_ask_for(tmp_path: Path) -> None:
    async with opened(house(tmp_path, a={"estimated_memory_gb": 60})) as front:
        answer = await front.chat("a")
    error = json.loads(answer.text)["error"]
    assert (answer.status, error["code"]) == (400, "never_fits")
    assert "no context would fit: ask for a smaller model" in error["message"]


@pytest.mark.parametrize(
    ("ctx", "remedy"),
    [
        (None, "have context_length: 4096 in its profile, which would fit"),
        (8192, "ask for a num_ctx of 4096"),
    ],
)
async def test_a_context_that_would_fit_is_had_as_its_api_has_it(tmp_path: Path, ctx: int | None, remedy: str) -> None:
    data = {"fits": {"ctx": 4096}, "would_help": ["raise max_memory_gb"]}
    async with opened(house(tmp_path)) as front:
        error = LmxdError("never_fits", "it is too large", "a context of 4096 tokens would fit", data)
        mended = await Remedies(KnownModels(front.leases.client), 300).mended(error, LeaseWish(model="a", ctx=ctx))
    assert mended is not None
    assert (mended.remedy, mended.data) == (f"{remedy}, or have an administrator raise max_memory_gb", data)


async def test_every_apis_client_has_the_same_remedy(tmp_path: Path) -> None:
    async with busy(house(tmp_path)) as front, of_anthropic(front) as claude, of_openai(front) as gpt:
        with pytest.raises(anthropic.RateLimitError) as of_claude:
            await claude.messages.create(model="b", max_tokens=5, messages=TURN, extra_headers=AT_ONCE)
        with pytest.raises(openai.RateLimitError) as of_gpt:
            await gpt.chat.completions.create(model="b", messages=TURN, extra_headers=AT_ONCE)
        client = ollama.AsyncClient(host=front.url, headers=front.headers(**AT_ONCE))
        with pytest.raises(ollama.ResponseError) as of_ollama:
            await client.chat("b", TURN)
    for error in (of_claude, of_gpt, of_ollama):
        for fact in ("12.00 GiB are needed", "held by a#1", "wait longer (Prefer: wait=SECONDS, 300 at most)"):
            assert fact in str(error.value)
        assert not COMMAND.search(str(error.value))


async def test_what_only_an_administrator_can_mend_says_so(tmp_path: Path) -> None:
    model(tmp_path, "bad", exit={"status": 1, "lines": ["error loading model: missing tensor"]})
    here = house(tmp_path, bad=ONE, gone={"path": "never.gguf"})
    async with opened(here) as front:
        for wanted in ("bad", "bad", "gone"):
            answer = await front.chat(wanted)
            message = json.loads(answer.text)["error"]["message"]
            assert answer.status >= 500
            assert not COMMAND.search(message) or "administrator" in message, message


async def test_a_key_is_an_administrators_to_make(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        for sent in ("", "Bearer none"):
            answer = await front.ask("/v1/models", None, "GET", Authorization=sent)
            said = "an administrator makes one: lmxd key NAME, or lmxd fleet key NAME of a fleet's gateway"
            assert said in answer.text
        answer = await front.ask("/lmxd/stop", {"instance": "a#1"})
        assert "an administrator makes one that is: lmxd key NAME --admin" in answer.text
        answer = await front.ask("/lmxd/stop", {"instance": "a#1"}, Authorization=f"Bearer {front.admin}")
        assert "for an administrator: lmxctl ps lists them" in answer.text


@pytest.mark.parametrize("code", sorted(EXIT_STATUS))
@pytest.mark.parametrize("remedy", ["lmxctl reload", "say --anyway", "run lmxd setup", "join the group lmxd-admin"])
def test_no_command_of_the_machine_is_for_everybody(code: str, remedy: str) -> None:
    assert said(LmxdError(code, "it is so", remedy)) == f"it is so (for an administrator: {remedy})"
    theirs = f"an administrator may: {remedy}"
    assert said(LmxdError(code, "it is so", theirs)) == f"it is so ({theirs})"


def test_no_remedy_of_the_gateway_is_a_command_for_everybody() -> None:
    """Those in its own source, which a new route may add to."""
    found = []
    for path in Path(lmxd.gateway.__file__).parent.rglob("*.py"):
        for call in ast.walk(parsed(path)):
            name = getattr(getattr(call, "func", None), "id", "")
            if name in ("LmxdError", "StatusError", "_refused") and isinstance(call, ast.Call) and call.args:
                remedy = ast.unparse(call.args[-1])
                if COMMAND.search(remedy) and "administrator" not in said(LmxdError("internal", "", remedy)):
                    found.append(f"{path.name}: {remedy}")
    assert not found
