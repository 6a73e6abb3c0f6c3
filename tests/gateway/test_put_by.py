"""Conversations that would be lost by the growth of another are put by for the gateway, and come back to any slot."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from devices.fake_nvml import FakeNvml
from house import House, card, http, model

from gateway.front import Front, opened
from gateway.test_turns_in_one_slot import Talks, files
from lmxd.daemon.launching import shelf
from lmxd.gateway.leasing import slots


def beside(tmp_path: Path, **play: Any) -> House:
    """A model of which an instance of each step fits, beside the others: 1,024, 4,096 and 16,384 tokens, or bytes."""
    model(tmp_path, "m", counts=True, **play)
    profile = {"context_length": 16384, "estimated_memory_gb": 1, "elastic": {"start": 1024, "steps": [4096]}}
    return House(tmp_path, FakeNvml(card()), models={"m": profile})


def in_place(tmp_path: Path, **play: Any) -> House:
    """A model of which one instance fits: of four slots of 8,192 tokens, or of one of 32,768."""
    model(tmp_path, "m", counts=True, **play)
    profile = {"context_length": 32768, "slots": 4, "estimated_memory_gb": 0.6, "elastic": {"start": 8192}}
    return House(tmp_path, models={"m": profile}, gpu={"device": "host", "max_memory_gb": 1})


def contexts(h: House) -> list[int]:
    return sorted(i.ask.context for i in h.state.instances.values() if i.live)


async def alone(front: Front, prompts: dict[str, str], turns: dict[str, tuple[int, ...]]) -> bool:
    """Whether conversations have the answers that they have from their beginning to their end, one after the other."""
    talks = Talks(front)
    for who, sizes in turns.items():
        for size in sizes:
            await talks.turn(who, size)
    return talks.prompts == prompts


async def test_a_growth_that_takes_the_slot_of_another_conversation_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other is not expected to go on: else the growth would have an instance of its own."""
    monkeypatch.setattr(slots, "GOES_ON", 0.0)
    async with opened(h := beside(tmp_path), instances=2) as front:
        talks = Talks(front)
        await talks.turn("a", 900)
        await talks.turn("b", 5000)
        await h.until(lambda: contexts(h) == [1024, 16384])
        assert await talks.turn("a", 4000) <= 4005, "it was carried to where the other lies"
        await h.until(lambda: contexts(h) == [16384])
        assert len(files(h)) == 1
        assert await talks.turn("b") <= 25, "it was read back"
        assert await talks.turn("a") <= 25
        assert await alone(front, talks.prompts, {"b": (5000, 20), "a": (900, 4000, 20)})


@pytest.mark.parametrize("slow", [False, True])
async def test_an_instance_that_ends_for_a_growth_has_the_conversations_of_nobody_put_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: bool
) -> None:
    """Within a bound of time: who grows waits for that."""
    if slow:
        monkeypatch.setattr(shelf, "RESCUED_WITHIN", 0.0)
    async with opened(h := in_place(tmp_path)) as front:
        talks = Talks(front)
        for who in "abc":
            await talks.turn(who, 5000)
        assert contexts(h) == [8192]
        assert await talks.turn("a", 4000) <= 4005
        assert contexts(h) == [32768]
        assert len(files(h)) == (0 if slow else 2)
        processed = [await talks.turn(who) for who in "bc"]
        assert max(processed) <= 25 if not slow else min(processed) > 5000
        assert await alone(front, talks.prompts, {"a": (5000, 4000), "b": (5000, 20), "c": (5000, 20)})


async def test_a_short_conversation_is_not_worth_a_file(tmp_path: Path) -> None:
    async with opened(h := in_place(tmp_path)) as front:
        talks = Talks(front)
        for who, size in (("a", 5000), ("b", shelf.WORTH - 10)):
            await talks.turn(who, size)
        await talks.turn("a", 4000)
        assert (contexts(h), files(h)) == ([32768], [])


async def test_what_a_gateway_left_that_leaves_itself_meanwhile_is_put_by_for_nobody(tmp_path: Path) -> None:
    async with in_place(tmp_path).open() as h:
        async with Front(h).open() as front:
            await Talks(front).turn("a", 5000)
            [instance] = h.state.instances
            launched = h.launched(instance)
            assert launched is not None
            assert launched.doorway is not None
            turn = launched.doorway.turn
            await turn.acquire()
            assert not (h.where.state / "moves").exists()
            rescue = asyncio.create_task(h.daemon.performer.shelf.rescue(instance, range(4)))
            await h.until((h.where.state / "moves").exists)
        await h.until(lambda: not h.daemon.answers.reusing)
        turn.release()
        await rescue
        assert files(h) == []


async def test_what_a_client_that_is_no_gateway_left_is_put_by_for_nobody(tmp_path: Path) -> None:
    async with in_place(tmp_path).open() as h, h.client() as lmxd:
        lease = await lmxd.request("m")
        for slot in range(2):
            body = json.dumps({"prompt": f"{slot}" * 2000, "n_predict": 1, "id_slot": slot}).encode()
            assert (await http(lease, "/completion", body)).status == 200
        grown = await lmxd.grow(lease.lease, 32768, slot=0)
        assert (grown.slot, files(h)) == (0, [])
