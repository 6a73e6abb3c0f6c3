"""Many agents of nodes on one real nats-server: bench/fleet_agents.py [--shortest] [--agents 1000] [--seconds 20]

Agents in five processes put their cards and send heartbeats over connections of their own, with TLS, certificates and
permissions as a fleet has them; what lmxd would say to them is made up. One table hears all, as a gateway's does. Then
one of the processes is frozen (SIGSTOP), and goes on again.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, cast

import msgspec

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from fleet_broker import Broker  # noqa: E402

from lmxd.fleet import bus, names  # noqa: E402
from lmxd.fleet.choosing.table import NodeTable  # noqa: E402
from lmxd.fleet.hearing import Hearing  # noqa: E402
from lmxd.fleet.home import FleetHome  # noqa: E402
from lmxd.fleet.members import MemberRole  # noqa: E402
from lmxd.fleet.node.agent import Agent, NodeIdentity  # noqa: E402
from lmxd.rpc.books import Device, InstanceInfo, Instances, ModelInfo, Models, Status  # noqa: E402

GIB = 2**30
PROCESSES = 5
AT_ONCE = 16
"""Connections of one process that are made at the same time."""
TICKS = os.sysconf("SC_CLK_TCK")
WITHOUT_VACANCY = "everywhere"
"""A model that each has, without a vacant slot, and without room for another instance."""


class MadeUp:
    """What lmxd would say of a box with one card, four models, and an instance of each, of which one is taken."""

    def __init__(self) -> None:
        size, models = 8 * GIB, ("chat", "code", "embed", WITHOUT_VACANCY)
        common: dict[str, Any] = {"ctx": 8192, "slots": 4}
        needs = {m: {"GPU-0": 40 * GIB if m == WITHOUT_VACANCY else size} for m in models}
        self._models = Models(
            models=[ModelInfo(model=m, bytes=needs[m], needs=needs[m], load=4.0, running=1, **common) for m in models]
        )
        card = Device(
            id="GPU-0", ref="0", kind="gpu", name="card", capacity=48 * GIB, reserved=32 * GIB, margin=2 * GIB,
            limit=None, used=32 * GIB, foreign=0, charged=32 * GIB, reclaiming=0, headroom=14 * GIB,
        )  # fmt: skip
        self._status = Status(
            version="1", uptime=1.0, engine="", admission=True, draining=False, devices=[card], instances=4, leases=0,
            waiting=0, queue_depth=512,
        )  # fmt: skip
        self._instances = Instances(
            instances=[
                InstanceInfo(
                    instance=f"{m}#1", model=m, engine="llama.cpp", phase="ready", idle=1.0, idle_timeout=300.0,
                    vacant=0 if m == WITHOUT_VACANCY else 4, busy=m == WITHOUT_VACANCY, age=9.0,
                    promised={"GPU-0": size}, charged={"GPU-0": size}, leases=[], **common,
                )
                for m in models
            ]
        )  # fmt: skip

    async def models(self) -> Models:
        return self._models

    async def status(self) -> Status:
        return self._status

    async def instances(self) -> Instances:
        return self._instances


async def speak(homes: list[Path]) -> None:
    """Be the agents of these homes until ended."""
    gate, lmxd = asyncio.Semaphore(AT_ONCE), cast(Any, MadeUp())

    async def one(path: Path) -> None:
        home = FleetHome.at(path, user=False)
        agent = Agent(NodeIdentity(home.settings.node, home.settings.door), Path("/nowhere"))
        async with gate:
            client = await bus.connect(home, MemberRole.NODE)
            bucket = await client.jetstream().key_value(names.BUCKET)
            card = await agent.card(lmxd)
            await bucket.put(card.node, msgspec.json.encode(card))
        while True:
            await agent.beat(lmxd, client)
            await asyncio.sleep(random.uniform(0.8, 1.2))

    await asyncio.gather(*map(one, homes))


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss(pid: int) -> float:
    """MiB that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def until(table: NodeTable, count: int, limit: float) -> float:
    """Seconds until so many nodes are alive. AssertionError after ``limit``."""
    begun = time.monotonic()
    while (found := len(table.alive(time.monotonic()))) != count:
        assert time.monotonic() - begun < limit, f"{found} of {count} nodes are alive after {limit:.0f} s"
        await asyncio.sleep(0.02)
    return time.monotonic() - begun


class Delayed(NodeTable):
    """A table that notes for how long heartbeats were on their way: all clocks are this machine's."""

    def __init__(self) -> None:
        super().__init__()
        self.delays: list[float] = []

    def hear(self, beat: Any, now: float) -> bool:
        self.delays.append(now - beat.sent)
        return super().hear(beat, now)


async def listen(broker: Broker, gateway: FleetHome, parts: list[list[Path]], seconds: float) -> None:
    assert broker.process is not None
    table, count, begun = Delayed(), sum(map(len, parts)), time.monotonic()
    hearing = Hearing(table, lambda *_: None, time.monotonic)
    client = await bus.connect(gateway, MemberRole.GATEWAY, lost=hearing.lost, found=hearing.found)
    task = asyncio.create_task(hearing.run(client))
    command = [sys.executable, __file__, "--homes"]
    agents = [await asyncio.create_subprocess_exec(*command, *map(str, part)) for part in parts]
    try:
        await until(table, count, 300)
        print(f"{count} agents joined in {time.monotonic() - begun:.1f} s, {len(parts)} starts of Python included")
        before, mine, at = cpu(broker.process.pid), time.process_time(), time.monotonic()
        theirs = sum(cpu(agent.pid) for agent in agents)
        table.delays.clear()
        await asyncio.sleep(seconds)
        took, delays = time.monotonic() - at, sorted(table.delays)
        print(f"heartbeats heard: {len(delays) / took:.0f} a second, p50 {1e3 * delays[len(delays) // 2]:.1f} ms after")
        print(f"they were made, p99 {1e3 * delays[int(len(delays) * 0.99)]:.1f} ms")
        per_agent = (sum(cpu(agent.pid) for agent in agents) - theirs) / took / count
        server = (cpu(broker.process.pid) - before) / took
        print(f"nats-server {server:.1%} of a core, {rss(broker.process.pid):.0f} MiB")
        print(f"the one that hears all {(time.process_time() - mine) / took:.1%} of a core")
        print(f"an agent {per_agent:.3%} of a core, {sum(rss(agent.pid) for agent in agents) / count:.2f} MiB")
        agents[0].send_signal(signal.SIGSTOP)
        frozen = await until(table, count - len(parts[0]), 30)
        agents[0].send_signal(signal.SIGCONT)
        back = await until(table, count, 60)
        print(f"{len(parts[0])} frozen: none alive after {frozen:.1f} s, all again {back:.1f} s after they went on")
    finally:
        task.cancel()
        for agent in agents:
            with suppress(ProcessLookupError):
                agent.kill()
            await agent.wait()
        await client.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shortest", action="store_true", help="20 agents for two seconds")
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--homes", nargs="*", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.homes:
        asyncio.run(speak(given.homes))
        return
    count, seconds = (20, 2.0) if given.shortest else (given.agents, given.seconds)
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = Broker(place)
        homes = [broker.box(f"n{n}", [MemberRole.NODE]).config.parent for n in range(count)]
        gateway = broker.box("g1", [MemberRole.GATEWAY])
        stack.enter_context(broker)
        asyncio.run(listen(broker, gateway, [homes[n::PROCESSES] for n in range(PROCESSES)], seconds))


if __name__ == "__main__":
    main()
