"""Who loads beside whom, on real processes and a fake card that shows them: bytes, figures learned, and times."""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from devices.fake_nvml import FakeNvml, Handle
from house import House, card, model

from lmxd.core.words import DeviceId
from lmxd.daemon.launching import loading
from lmxd.daemon.readings import settled
from lmxd.engines.engine import Endpoint
from lmxd.engines.llama_cpp.server import LlamaServer
from lmxd.errors import LmxdError
from lmxd.rpc.client import AsyncClient
from lmxd.rpc.messages import Granted

GIB = 2**30
MIB = 2**20
ON_GPU = ["load_tensors:      CUDA0 model buffer size =  4155.99 MiB"]
FAKES = Path(__file__).parent.parent / "fake_servers.py"
TAKEN = {"a": 700 * MIB, "b": 420 * MIB, "c": 900 * MIB, "slow": 5 * GIB}


class Shown(FakeNvml):
    """Its first card shows what our processes take: as much of TAKEN as their model file says, by name."""

    def __init__(self, house: list[House], *, tells: bool = True) -> None:
        super().__init__(card(24))
        self._house = house
        self._tells = tells

    def nvmlDeviceGetComputeRunningProcesses(self, handle: Handle) -> list[SimpleNamespace]:
        pids = self._house[0].daemon.launches.pids() if self._house else {}
        mine = {pid: TAKEN[name.split("#")[0]] for name, pid in pids.items()}
        handle.card.processes = {**mine, 4711: GIB} if self._tells else None
        return super().nvmlDeviceGetComputeRunningProcesses(handle)


def house(tmp_path: Path, *, tells: bool = True, play: dict[str, object] | None = None, **sections: object) -> House:
    for name in "abc":
        model(tmp_path, name, **({"buffers": ON_GPU, "load_seconds": 0.4} | (play or {})))
    seen: list[House] = []
    base: dict[str, object] = {"models": {name: {"context_length": 2048} for name in "abc"}}
    seen.append(House(tmp_path, Shown(seen, tells=tells), **(base | sections)))
    return seen[0]


def slow(tmp_path: Path) -> dict[str, object]:
    """An engine that is ready only when it is told to be."""
    script = tmp_path / "slow"
    script.write_text(
        f"#!/bin/sh\nwhile ! [ -e {tmp_path}/go ]; do sleep 0.02; done\nexec {sys.executable} -S -E {FAKES} comfyui"
        " --listen 127.0.0.1 --reserve-vram 1 --port $1\n"
    )
    script.chmod(0o755)
    return {"command": [str(script), "{port}"], "open": True, "health": "/system_stats", "estimated_memory_gb": 5}


async def most_at_once(h: House, *requests: asyncio.Task[Granted]) -> int:
    """How many had a process and were not ready, until all were."""
    most = 0

    def all_are_done() -> bool:
        nonlocal most
        launched = [h.launched(name) for name in h.phases()]
        most = max(most, sum(1 for x in launched if x is not None and x.process is not None and x.ready_at is None))
        return all(request.done() for request in requests)

    await h.until(all_are_done)
    await asyncio.gather(*requests)
    return most


def ask(lmxd: AsyncClient, *names: str) -> list[asyncio.Task[Granted]]:
    return [asyncio.create_task(lmxd.request(name)) for name in names]


@pytest.mark.parametrize(("limit", "together"), [({"parallel_loads": 3}, 3), ({"parallel_loads": 1}, 1)])
async def test_as_many_load_at_once_as_may(tmp_path: Path, limit: dict[str, int], together: int) -> None:
    async with house(tmp_path, engine=limit).open() as h, h.client() as lmxd:
        assert await most_at_once(h, *ask(lmxd, "a", "b", "c")) == together


async def test_the_users_word_alone_is_not_knowledge(tmp_path: Path) -> None:
    """A file that the closed form cannot read is alone; one that it can is not, whatever was declared."""
    models = {name: {"estimated_memory_gb": 1} for name in "abc"}
    made = house(tmp_path, models=models, engine={"parallel_loads": 3})
    (tmp_path / "c.gguf").write_bytes(b"GGUF" + bytes(100))
    async with made.open() as h, h.client() as lmxd:
        assert await most_at_once(h, *ask(lmxd, "a", "b")) == 2
        assert await most_at_once(h, *ask(lmxd, "c")) == 1
    async with made.open() as h, h.client() as lmxd:
        assert await most_at_once(h, *ask(lmxd, "c", "a")) == 1


async def test_where_processes_are_not_told_apart_one_loads_at_a_time(tmp_path: Path) -> None:
    async with house(tmp_path, tells=False, engine={"parallel_loads": 3}).open() as h, h.client() as lmxd:
        assert await most_at_once(h, *ask(lmxd, "a", "b")) == 1


def all_are_ready(h: House, requests: list[asyncio.Task[Granted]], foreign: set[int]) -> bool:
    """Until they are, what is foreign is taken down at every look."""
    if all(request.done() for request in requests):
        return True
    foreign |= {a.foreign for a in h.state.ledger.accounts.values()}
    return False


async def test_two_that_load_at_once_are_learned_as_when_each_loads_alone(tmp_path: Path) -> None:
    learned = []
    for most in (1, 2):
        place = tmp_path / str(most)
        place.mkdir()
        async with house(place, engine={"parallel_loads": most}).open() as h, h.client() as lmxd:
            foreign: set[int] = set()
            requests = ask(lmxd, "a", "b")
            await h.until(partial(all_are_ready, h, requests, foreign))
            await h.daemon.measuring.look()
            found = h.daemon.learning.observations.learned.observations
            learned.append(sorted((o.model, o.loaded, o.predicted, o.buffers) for o in found))
            assert foreign == {GIB}, "what is not ours is told from both at every look"
    assert learned[0] == learned[1]
    assert [(name, loaded) for name, loaded, _, _ in learned[0]] == [("a", TAKEN["a"]), ("b", TAKEN["b"])]


async def test_an_unknown_engine_loads_alone_until_its_bytes_stop_growing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "STILL", 3600)
    models = {"slow": slow(tmp_path), "a": {"context_length": 2048}}
    async with house(tmp_path, models=models).open() as h, h.client() as lmxd, h.client() as two:
        (first,) = ask(lmxd, "slow")
        await h.until(lambda: "slow#1" in h.daemon.launches.pids())
        (second,) = ask(two, "a")
        await h.until(lambda: [x.plan.instance for x in h.daemon.launches.waiting()] == ["a#1"])
        monkeypatch.setattr(loading, "STILL", 0)
        assert (await asyncio.wait_for(second, 10)).instance == "a#1"
        assert h.phases() == {"slow#1": "starting", "a#1": "ready"}
        (tmp_path / "go").touch()
        await asyncio.wait_for(first, 10)
        assert h.daemon.learning.peaks.sizes == {}, "nobody else's bytes are taken for its own"


async def test_who_is_told_to_stop_while_it_waits_for_its_turn_goes_at_once(tmp_path: Path) -> None:
    models = {"slow": slow(tmp_path), "a": {"context_length": 2048}}
    async with house(tmp_path, models=models).open() as h, h.client() as lmxd, h.client() as two:
        (first,) = ask(lmxd, "slow")
        await h.until(lambda: "slow#1" in h.daemon.launches.pids())
        (second,) = ask(two, "a")
        await h.until(lambda: bool(h.daemon.launches.waiting()))
        await lmxd.stop("a#1")
        with pytest.raises(LmxdError, match="stopped"):
            await second
        await h.until(lambda: h.phases() == {"slow#1": "starting"})
        assert h.daemon.launches.waiting() == []
        (tmp_path / "go").touch()
        await first


async def test_what_is_learned_of_a_launch_is_its_load_and_not_its_wait_for_a_turn(tmp_path: Path) -> None:
    async with house(tmp_path, engine={"parallel_loads": 1}).open() as h, h.client() as lmxd:
        for request in ask(lmxd, "a", "b", "c"):
            await request
        waited = {i.ask.profile: i.ready_at - i.started_at for i in h.state.instances.values()}
        learned = h.state.expectations.launches
        assert sum(learned.values()) <= max(waited.values()) + 0.01, "one after the other"
        assert min(learned.values()) > 0.4


async def test_one_that_became_ready_during_a_look_need_not_be_in_it(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        await lmxd.request("a")
        (instance,) = h.state.instances.values()
        assert settled(h.state, DeviceId("GPU-a"), instance.ready_at - 0.001) == set()
        assert settled(h.state, DeviceId("GPU-a"), instance.ready_at + 0.001) == {"a#1"}


async def test_a_load_that_takes_too_long_leaves_no_question_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_up: list[Endpoint] = []

    async def ready(self: LlamaServer, endpoint: Endpoint) -> bool:
        try:
            await asyncio.Event().wait()
            return True
        finally:
            given_up.append(endpoint)

    monkeypatch.setattr(LlamaServer, "ready", ready)
    here = House(tmp_path, gpu={"device": "host"}, models={"m": {}}, engine={"load_timeout": 0.5})
    async with here.open() as h, h.client() as lmxd:
        with pytest.raises(LmxdError, match="not ready within"):
            await lmxd.request("m")
        assert len(given_up) == 1


@pytest.mark.parametrize("kind", ["llama.cpp", "tcp", "unix"])
async def test_nothing_is_looked_for_in_all_of_the_machine_by_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A pass over all processes, or all sockets, takes as long as any user wants: all clients would wait for it."""
    model(tmp_path, "m", load_seconds=0.3)
    seen: dict[str, set[bool]] = {}
    for name in (
        "lmxd.instances.proc.children",
        "lmxd.daemon.launching.startup.listening_port",
        "lmxd.engines.command.on_port",
        "lmxd.engines.silence.on_socket",
        "lmxd.instances.proc.session",
    ):
        place, _, function = name.rpartition(".")
        monkeypatch.setattr(name, noting(getattr(importlib.import_module(place), function), seen))
    run = f"{sys.executable} -S -E {FAKES}"
    comfy = f"{run} comfyui --listen 127.0.0.1 --reserve-vram 1 --port {{port}}".split()
    words = "serve m --uds {socket} --gpu-memory-utilization 0.5 --max-model-len 10 --served-model-name m"
    profiles: dict[str, dict[str, object]] = {
        "llama.cpp": {"endpoint": "tcp"},
        "tcp": {"command": comfy, "health": "/system_stats", "open": True, "estimated_memory_gb": 0.1},
        "unix": {"command": f"{run} vllm {words}".split(), "estimated_memory_gb": 0.1},
    }
    here = House(tmp_path, gpu={"device": "host"}, models={"m": profiles[kind]}, idle_timeout=1)
    wanted = {"llama.cpp": {"children", "listening_port"}, "tcp": {"children", "on_port"}, "unix": {"on_socket"}}[kind]
    async with here.open() as h, h.client() as lmxd:
        await lmxd.request("m", hold="explicit")
        await h.until(lambda: wanted <= seen.keys())
    assert {name for name, on_loop in seen.items() if True in on_loop} == set()


def noting(function: Callable[..., Any], seen: dict[str, set[bool]]) -> Callable[..., Any]:
    """The same function, which notes by its name whether it is called in the thread of the loop."""

    def noted(*given: Any) -> Any:
        seen.setdefault(function.__name__, set()).add(threading.current_thread() is threading.main_thread())
        return function(*given)

    return noted
