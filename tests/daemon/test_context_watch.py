"""What elastic instances use of their context: asked for when it may have changed, and told where less would do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from house import House, http, model

from lmxd.core.events import ContextSeen, Event
from lmxd.core.instances import Instance
from lmxd.core.words import Ask, InstanceId
from lmxd.daemon.launching.context_watch import ContextWatch
from lmxd.daemon.launching.launched import Launched
from lmxd.engines.carrier import SlotUse
from lmxd.errors import LmxdError
from lmxd.rpc.messages import Granted

ELASTIC = {"elastic": {"start": 256, "steps": [512]}}


def house(tmp_path: Path, **profile: Any) -> House:
    model(tmp_path, "m", counts=True)
    usual = {"estimated_memory_gb": 0.1, "context_length": 1024}
    return House(tmp_path, models={"m": usual | profile}, gpu={"device": "host", "max_memory_gb": 1})


class Watched:
    """A watch over the instances of a house: what it was told, and what it told."""

    def __init__(self, h: House, *, fails: bool = False) -> None:
        self.house = h
        self.fails = fails
        self.events: list[Event] = []
        self.seen: list[tuple[str, str, tuple[int | None, ...]]] = []
        self.asked: list[tuple[int, ...]] = []
        self.watch = ContextWatch(h.state, self.events.append, self._shrunk, self._seen)

    async def _shrunk(self, instance: Instance, used: Sequence[int]) -> Ask | None:
        self.asked.append(tuple(used))
        if self.fails:
            raise LmxdError("unknown_model", "it is gone")
        return instance.ask if max(used) < 100 else None

    def _seen(self, instance: InstanceId, profile: str, used: Sequence[SlotUse | None]) -> None:
        self.seen.append((instance, profile, tuple(None if use is None else use.tokens for use in used)))

    async def look(self, lease: Granted) -> Launched:
        """As when its engine was asked, and is idle."""
        launched = self.house.launched(lease.instance)
        assert launched is not None
        launched.work = await self._work(launched)
        await self.watch.look(launched)
        return launched

    async def _work(self, launched: Launched) -> float:
        assert launched.endpoint is not None
        activity = await launched.engine.activity(launched.endpoint)
        assert activity is not None
        return activity.work


async def say(lease: Granted, prompt: str) -> None:
    await http(lease, "/completion", json.dumps({"prompt": prompt, "n_predict": 1}).encode())


async def test_an_instance_is_asked_when_it_has_worked_and_only_then(tmp_path: Path) -> None:
    async with house(tmp_path, **ELASTIC).open() as h, h.client() as lmxd:
        watched, lease = Watched(h), await lmxd.request("m")
        await say(lease, "a" * 49)
        await watched.look(lease)
        await watched.look(lease)
        assert watched.seen == [(lease.instance, "m", (50,))]
        await say(lease, "b" * 149)
        await watched.look(lease)
        assert [used for _, _, used in watched.seen] == [(50,), (150,)]
        told = [x.smaller is not None for x in watched.events if isinstance(x, ContextSeen)]
        assert told == [True, False]


async def test_of_several_slots_all_are_told(tmp_path: Path) -> None:
    async with house(tmp_path, slots=2, **ELASTIC).open() as h, h.client() as lmxd:
        watched, lease = Watched(h), await lmxd.request("m")
        await say(lease, "a" * 49)
        await watched.look(lease)
        assert [sorted(used) for _, _, used in watched.seen] == [[0, 50]]  # type: ignore[type-var]
        assert [sorted(used) for used in watched.asked] == [[0, 50]]
        assert [x.smaller is not None for x in watched.events if isinstance(x, ContextSeen)] == [True]


async def test_an_instance_of_one_size_is_not_asked(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        watched, lease = Watched(h), await lmxd.request("m")
        await say(lease, "a" * 49)
        await watched.look(lease)
        assert (watched.seen, watched.events) == ([], [])


async def test_one_that_is_at_work_again_is_asked_when_it_is_done(tmp_path: Path) -> None:
    async with house(tmp_path, **ELASTIC).open() as h, h.client() as lmxd:
        watched, lease = Watched(h), await lmxd.request("m")
        await http(lease, "/fake/busy", b"1")
        launched = await watched.look(lease)
        assert (watched.seen, watched.events) == ([(lease.instance, "m", (None,))], [])
        assert launched.looked_at is None
        await http(lease, "/fake/busy", b"0")
        await watched.look(lease)
        assert [x.instance for x in watched.events if isinstance(x, ContextSeen)] == [lease.instance]


async def test_a_model_that_is_gone_has_no_smaller_instance(tmp_path: Path) -> None:
    async with house(tmp_path, **ELASTIC).open() as h, h.client() as lmxd:
        watched, lease = Watched(h, fails=True), await lmxd.request("m")
        await say(lease, "a" * 49)
        await watched.look(lease)
        (event,) = watched.events
        assert isinstance(event, ContextSeen)
        assert (watched.asked, event.smaller) == ([(50,)], None)
