"""vLLMs that sleep under a whole lmxd: fake ones, on a card that has what they say."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from house import House
from sleeping_vllm import DEVICES, is_alive, sleepy, sleepy_card
from waiting import until

from lmxd.core.decisions import Decision, SleepInstance, WakeInstance
from lmxd.core.invariants import broken
from lmxd.core.words import InstanceId
from lmxd.daemon.launching import slumber

GIB = 2**30
NAMES = ("v", "w")


def house(directory: Path, **plays: dict[str, Any]) -> House:
    """A card with room for one, beside RAM; ``plays``: how each is to behave."""
    models = {name: sleepy(directory, name, **plays.get(name, {})) for name in NAMES}
    return House(directory, sleepy_card(directory), models=models, gpu=DEVICES)


async def take_turns(h: House, client: Any, *names: str) -> None:
    for name in names:
        await (await asyncio.wait_for(client.request(name), 20)).release()


async def test_two_take_turns_and_neither_is_started_twice(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as client:
        await take_turns(h, client, "v", "w", "v")
        await h.until(lambda: h.phases() == {"v#1": "ready", "w#1": "asleep"})
        (asleep,) = [i for i in (await client.instances()).instances if i.phase == "asleep"]
        assert asleep.charged["GPU-a"] == GIB // 2
        assert asleep.charged["host"] > 0
        v = h.state.instances[InstanceId("v#1")]
        await h.until(lambda: time.monotonic() > v.evictable_from)  # its client does not come back
        planned = await client.plan("w")
        assert (planned.outcome, planned.sleeps) == ("evict", ["v#1"])
        steps = [step.event for step in (await client.explain("v#1")).steps]
        told = ["SleepInstance", "WakeInstance"]
        assert [step for step in steps if step in told] == told


async def test_one_that_sleeps_is_woken_at_once_where_there_is_room(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as client:
        await take_turns(h, client, "v", "w")
        await client.stop("w#1")
        await h.until(lambda: h.phases() == {"v#1": "asleep"})
        planned = await client.plan("v")
        assert (planned.outcome, planned.instance) == ("share", "v#1")
        assert "woken" in planned.why
        await take_turns(h, client, "v")
        assert h.phases() == {"v#1": "ready"}


@pytest.mark.parametrize("play", [{"sleep_status": 500}, {"sleep_dies": True}, {"asleep_gb": 16}], ids=str)
async def test_one_that_does_not_sleep_is_ended_and_the_other_is_served(tmp_path: Path, play: dict[str, Any]) -> None:
    async with house(tmp_path, v=play).open() as h, h.client() as client:
        await take_turns(h, client, "v", "w", "v", "w")
        assert "v#2" not in h.phases()
        assert h.state.counts["slept"] == 2, "v does not try again, w does"


async def test_one_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slumber, "LONGEST", 0.3)
    async with house(tmp_path, v={"sleep_seconds": 60}).open() as h, h.client() as client:
        await take_turns(h, client, "v", "w")
        assert h.phases()["w#1"] == "ready"


@pytest.mark.parametrize("play", [{"wake_status": 500}, {"wake_dies": True}], ids=str)
async def test_who_waits_for_one_that_does_not_wake_gets_another(tmp_path: Path, play: dict[str, Any]) -> None:
    async with house(tmp_path, v=play).open() as h, h.client() as client:
        await take_turns(h, client, "v", "w", "v")
        assert h.phases()["v#2"] == "ready"


async def test_one_that_dies_asleep_is_given_back(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as client:
        await take_turns(h, client, "v", "w")
        launched = h.launched("v#1")
        assert launched is not None
        assert launched.process is not None
        os.kill(launched.process.pid, signal.SIGKILL)
        await h.until(lambda: "v#1" not in h.phases())


async def test_it_sleeps_on_when_lmxd_is_started_again(tmp_path: Path) -> None:
    first = house(tmp_path)
    async with first.open(stays=True) as h, h.client() as client:
        await take_turns(h, client, "v", "w")
        await h.until(lambda: h.phases() == {"v#1": "asleep", "w#1": "ready"})  # two readings say the same of it
        pid = h.daemon.launches.pids()[InstanceId("v#1")]
    again = House(tmp_path, first.nvml, **first.sections)
    async with again.open() as h, h.client() as client:
        assert h.phases() == {"v#1": "asleep", "w#1": "ready"}
        await take_turns(h, client, "v")
        assert h.phases()["v#1"] == "ready"
        assert h.daemon.launches.pids()[InstanceId("v#1")] == pid


@pytest.mark.parametrize("turn", ["sleep", "wake"])
async def test_one_that_was_about_to_sleep_or_wake_is_ended_when_lmxd_is_started_again(
    tmp_path: Path, turn: str
) -> None:
    first = house(tmp_path, v={f"{turn}_seconds": 30})
    async with first.open(stays=True) as h, h.client() as client:
        await take_turns(h, client, *(["v"] if turn == "sleep" else ["v", "w"]))
        asking = asyncio.create_task(client.request("w" if turn == "sleep" else "v"))
        await h.until(lambda: h.phases()["v#1"] == ("dozing" if turn == "sleep" else "waking"))
        pid = h.daemon.launches.pids()[InstanceId("v#1")]
        asking.cancel()
    again = House(tmp_path, first.nvml, **first.sections)
    async with again.open() as h, h.client() as client:
        await until(lambda: not is_alive(pid))
        await take_turns(h, client, "w")


async def test_one_whose_state_is_not_as_the_ledger_says_is_ended(tmp_path: Path) -> None:
    first = house(tmp_path)
    async with first.open(stays=True) as h, h.client() as client:
        await take_turns(h, client, "v", "w")
        launched = h.launched("v#1")
        assert launched is not None
        assert launched.endpoint is not None
        assert await launched.engine.wake(launched.endpoint, 5)  # type: ignore[attr-defined]
        pid = h.daemon.launches.pids()[InstanceId("v#1")]
    again = House(tmp_path, first.nvml, **first.sections)
    async with again.open():
        await until(lambda: not is_alive(pid))


@pytest.mark.parametrize("kind", [SleepInstance, WakeInstance])
async def test_one_that_cannot_be_told_is_ended_and_who_waits_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Decision]
) -> None:
    async with house(tmp_path).open() as h, h.client() as client:
        carry_out, failed = h.daemon.performer.carry_out, list[Decision]()

        def once(decision: Decision) -> None:
            if isinstance(decision, kind) and not failed:
                failed.append(decision)
                raise RuntimeError("a fault of lmxd's own")
            carry_out(decision)

        monkeypatch.setattr(h.daemon.performer, "carry_out", once)
        await take_turns(h, client, "v", "w", "v")
        assert failed
        assert broken(h.state) == []
