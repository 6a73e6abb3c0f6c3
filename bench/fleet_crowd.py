"""A fleet's gateway as a process, with few nodes and with many: bench/fleet_crowd.py [--shortest] [--agents 997]

Three real nodes, whose engine computes nothing, one nats-server, and ``lmxd fleet gateway``. Then the agents of
fleet_agents.py join: with a card, heartbeats and connections of their own, but no door. ``own`` is a model that the
three have alone; ``everywhere`` is on all nodes, of which the three have vacant slots, and the others none.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
from fleet_agents import PROCESSES, WITHOUT_VACANCY, cpu, rss
from fleet_gateway import engine
from gateway_overhead import CHAT, Quietly
from http_load import Front, Load, compare

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from fleet_boxes import FleetGateway  # noqa: E402
from fleet_broker import Broker  # noqa: E402
from fleet_node import Node  # noqa: E402
from free_ports import free_address  # noqa: E402
from house import model  # noqa: E402

from lmxd.fleet.home import FleetHome  # noqa: E402
from lmxd.fleet.members import MemberRole  # noqa: E402

REAL = ("real1", "real2", "real3")
_LIMIT = 300.0
"""Seconds that agents have to join."""


def node(stack: ExitStack, place: Path, home: FleetHome) -> None:
    """A box with both models, and its node."""
    place.mkdir()
    for name in ("own", WITHOUT_VACANCY):
        model(place, name)
    config = {
        "gpu": {"device": "host", "max_memory_gb": 1},
        "engine": {"path": str(engine(place))},
        "model_dir": str(place),
        "models": {name: {"estimated_memory_gb": 0.1, "slots": 64} for name in ("own", WITHOUT_VACANCY)},
    }
    stack.enter_context(Node(stack.enter_context(Quietly(place, config)), home))


@contextmanager
def agents(homes: list[Path]) -> Iterator[None]:
    """The agents of these homes, in processes of their own."""
    command = [sys.executable, str(ROOT / "bench/fleet_agents.py"), "--homes"]

    async def started() -> list[asyncio.subprocess.Process]:
        parts = [homes[n::PROCESSES] for n in range(PROCESSES)]
        return [await asyncio.create_subprocess_exec(*command, *map(str, part)) for part in parts if part]

    async def ended() -> None:
        for process in processes:
            process.kill()
        await asyncio.gather(*(process.wait() for process in processes))

    with asyncio.Runner() as runner:
        processes = runner.run(started())
        try:
            yield
        finally:
            runner.run(ended())


def alive(fleet: FleetGateway) -> int:
    with fleet.client() as client:
        return sum(each["state"] == "up" for each in client.get("/lmxd/state").json()["nodes"])


def until(holds: Callable[[], bool]) -> float:
    begun = time.monotonic()
    while not holds():
        assert time.monotonic() - begun < _LIMIT, "it did not come about in time"
        time.sleep(0.2)
    return time.monotonic() - begun


def measure(fleet: FleetGateway, count: int, rounds: int, seconds: float) -> None:
    """The gateway at rest, its requests, and its lists, with so many nodes."""
    pid = fleet.process.pid
    before, at = cpu(pid), time.monotonic()
    time.sleep(max(1.0, 4 * seconds))
    share = (cpu(pid) - before) / (time.monotonic() - at)
    print(f"\n{count} nodes: the gateway has {rss(pid):.0f} MiB, and {share:.1%} of a core without requests")
    front = Front("fleet's gateway", int(fleet.url.rpartition(":")[2]), fleet.key, "", (pid,))
    loads = [
        Load(
            f"{name} of {count} nodes", clients, CHAT, {"model": name, "messages": [{"role": "user", "content": "hi"}]}
        )
        for name in ("own", WITHOUT_VACANCY)
        for clients in (1, 4)
    ]
    compare([front], loads, rounds, seconds)
    with fleet.client() as client:
        for path in ("/v1/models", "/lmxd/state", "/metrics"):
            print(f"  {path}: {timed(client, path)}")


def timed(client: httpx.Client, path: str) -> str:
    """Milliseconds of the best of five, and how much comes."""
    took = []
    for _ in range(5):
        begun = time.perf_counter()
        body = client.get(path).content
        took.append(time.perf_counter() - begun)
    return f"{1e3 * min(took):.1f} ms, {len(body) / 1024:.0f} KiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shortest", action="store_true", help="10 agents for a moment")
    parser.add_argument("--agents", type=int, default=997)
    given = parser.parse_args()
    count, rounds, seconds = (10, 1, 0.1) if given.shortest else (given.agents, 4, 2.0)
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = Broker(place)
        many = [broker.box(f"n{n}", [MemberRole.NODE]).config.parent for n in range(count)]
        real = [broker.box(name, [MemberRole.NODE], door=free_address()) for name in REAL]
        section = {"listen": free_address(), "keys_file": str(place / "keys")}
        users = {"default": {"max_leases": 1000}}
        front = broker.box("g1", [MemberRole.GATEWAY], gateway=section, users=users)
        stack.enter_context(broker)
        for home in real:
            node(stack, place / f"box-{home.settings.node}", home)
        fleet = stack.enter_context(FleetGateway(front))
        until(lambda: alive(fleet) == len(REAL))
        measure(fleet, len(REAL), rounds, seconds)
        stack.enter_context(agents(many))
        joined = until(lambda: alive(fleet) == len(REAL) + count)
        print(f"\n{count} more had joined after {joined:.0f} s")
        measure(fleet, len(REAL) + count, rounds, seconds)
    print(f"{os.cpu_count()} cores; load of others: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
