"""Engines that die in the middle of a growth: a client of the gateway has its answer all the same."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest
from devices.fake_nvml import FakeNvml
from house import House, card, model

from gateway.front import opened
from gateway.test_turns_in_one_slot import Talks, files
from lmxd.core.words import InstanceId

WAYS = ("beside", "in place")


def house(tmp_path: Path, way: str) -> House:
    """A model of 1,024 and 4,096 tokens; of its instances two have room, or one."""
    model(tmp_path, "m", counts=True)
    profile = {"context_length": 4096, "elastic": {"start": 1024}}
    if way == "beside":
        return House(tmp_path, FakeNvml(card()), models={"m": profile | {"estimated_memory_gb": 1}})
    gpu = {"device": "host", "max_memory_gb": 1}
    return House(tmp_path, models={"m": profile | {"estimated_memory_gb": 0.6}}, gpu=gpu)


def play(tmp_path: Path, **what: float) -> None:
    """How the instances behave that start from now on."""
    (tmp_path / "m.json").write_text(json.dumps({"counts": True} | what))


async def dies_at_its_door(h: House, instance: str) -> None:
    """Kill an engine that writes or reads the file of a slot."""
    door = h.where.state / "prompts" / f"{instance}.door"
    await h.until(lambda: any(door.glob("*")))
    pid = h.daemon.performer.pid(InstanceId(instance))
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("way", WAYS)
async def test_one_that_dies_while_it_saves(tmp_path: Path, way: str) -> None:
    here = house(tmp_path, way)
    play(tmp_path, slot_seconds=60)
    async with opened(here) as front:
        talks = Talks(front)
        await talks.turn("a", 800)
        play(tmp_path)
        asking = asyncio.create_task(talks.turn("a", 800))
        await dies_at_its_door(here, "m#1")
        assert await asking == 1605, "it is processed anew"
        await same(here, talks)


@pytest.mark.parametrize("way", WAYS)
async def test_one_that_dies_while_it_reads(tmp_path: Path, way: str) -> None:
    async with opened(here := house(tmp_path, way)) as front:
        talks = Talks(front)
        await talks.turn("a", 800)
        play(tmp_path, slot_seconds=60)
        asking = asyncio.create_task(talks.turn("a", 800))
        await here.until(lambda: here.phases().get("m#2") == "ready")
        play(tmp_path)
        await dies_at_its_door(here, "m#2")
        assert await asking == 1605, "it is processed anew"
        await same(here, talks)


async def same(h: House, talks: Talks) -> None:
    """The conversation goes on, and is what it would have been without a fault; nothing is left behind."""
    assert await talks.turn("a") <= 25
    other = Talks(talks.front)
    for size in (800, 800, 20):
        await other.turn("a", size)
    assert other.prompts == talks.prompts
    await h.until(lambda: not files(h))
