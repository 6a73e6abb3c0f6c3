"""The steps of an elastic model, as models, plan and estimate say them."""

from __future__ import annotations

from pathlib import Path

import pytest
import synthetic
from devices.fake_nvml import FakeNvml
from house import House, card

from lmxd.cli import steps
from lmxd.rpc.books import GrowthInfo, StepInfo

KEYS = {"context_length": 32768, "slots": 4, "elastic": {"start": 4096, "steps": [8192]}}


def house(directory: Path, **keys: object) -> House:
    return House(directory, FakeNvml(card(uuid="GPU-a")), models={"m": KEYS | keys})


async def test_each_step_has_its_bytes_and_slots(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        grows = (await lmxd.plan("m")).growth
        assert grows is not None
        assert [(x.ctx, x.slots, list(x.bytes), x.problem) for x in grows.steps] == [
            (4096, 4, ["GPU-a"], None),
            (8192, 2, ["GPU-a"], None),
            (32768, 1, ["GPU-a"], None),
        ]
        assert grows.not_carried is None
        planned = [(await lmxd.plan("m", ctx=x.ctx)).devices for x in grows.steps]
        assert planned == [x.bytes for x in grows.steps], "each is what a request for it would be charged"
        assert (await lmxd.estimate("m")).growth == grows
        assert (await lmxd.estimate("m", ctx=8192)).growth == grows


async def test_a_list_has_the_top_and_the_steps(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        (found,) = (await lmxd.models()).models
        assert (found.ctx, found.slots) == (32768, 4)
        assert found.elastic is not None
        assert (found.elastic.start, found.elastic.steps) == (4096, [4096, 8192, 32768])
        assert found.bytes == (await lmxd.plan("m")).devices, "what a lease begins with"


async def test_a_step_that_cannot_be_says_why(tmp_path: Path) -> None:
    async with house(tmp_path, context_length=65536).open() as h, h.client() as lmxd:
        grows = (await lmxd.plan("m")).growth
        assert grows is not None
        assert [x.problem is None for x in grows.steps] == [True, True, False]
        assert "was trained for 32768 tokens" in (grows.steps[-1].problem or "")
        assert any("models.m: ctx is 65536" in warning for warning in (await lmxd.status()).warnings)


async def test_a_fixed_context_has_none(tmp_path: Path) -> None:
    async with House(tmp_path, FakeNvml(card(uuid="GPU-a")), models={"m": {}}).open() as h, h.client() as lmxd:
        assert (await lmxd.plan("m")).growth is None
        assert (await lmxd.estimate("m")).growth is None
        assert (await lmxd.models()).models[0].elastic is None


async def test_what_would_have_a_sliding_window_carried_has_its_price(tmp_path: Path) -> None:
    for name in ("narrow", "wide", "shared"):
        synthetic.write(tmp_path / f"{name}.gguf", *synthetic.gemma3_12b())
    keys = {"context_length": 32768, "context": "elastic"}
    models = {"narrow": keys, "wide": keys | {"swa_full": True}, "shared": keys | {"slots": 4}}
    async with House(tmp_path, FakeNvml(card(uuid="GPU-a")), models=models).open() as h, h.client() as lmxd:
        narrow, wide, shared = [(await lmxd.estimate(name)).growth for name in models]
        assert narrow is not None
        assert wide is not None
        assert shared is not None
        assert "sliding window" in (narrow.not_carried or "")
        assert wide.not_carried is None
        more = [b.bytes["GPU-a"] - a.bytes["GPU-a"] for a, b in zip(narrow.steps, wide.steps, strict=True)]
        assert narrow.swa_full_bytes == max(more) > 2**30
        assert wide.swa_full_bytes is None
        assert shared.swa_full_bytes is None, "with more slots it would not be carried either"


def test_people_are_told_what_a_growth_does(capsys: pytest.CaptureFixture[str]) -> None:
    known = [StepInfo(ctx=4096, slots=4, bytes={"GPU-a": 2**30}), StepInfo(ctx=8192, slots=2, problem="it is too much")]
    steps.show(GrowthInfo(steps=known), {"GPU-a": "card 0"})
    steps.show(GrowthInfo(steps=known, not_carried="its sliding window keeps 1024 tokens"), {})
    priced = GrowthInfo(steps=known, not_carried="its sliding window keeps 1024 tokens", swa_full_bytes=3 * 2**29)
    steps.show(priced, {})
    steps.show(GrowthInfo(steps=known, share=1024), {})
    said = capsys.readouterr().out
    assert "a conversation has one slot for every 1024 tokens that it needs\n" in said
    assert "4096      4  1.00 GiB on card 0" in said
    assert "8192      2  it is too much" in said
    assert "a conversation that grows is carried along\n" in said
    assert "a conversation that grows is processed anew: its sliding window keeps 1024 tokens\n" in said
    assert "keeps 1024 tokens; swa_full takes 1,536 MiB more for an instance at most\n" in said
