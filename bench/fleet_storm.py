"""A fleet under a load of OpenAI's clients, while its processes are killed and frozen at random.

bench/fleet_storm.py [--faults 30] [--nodes 3] [--clients 8] [--seed 1] [--shortest]: real processes on this machine,
with the fake engine: a broker, nodes with their lmxds, two gateways. One fault after the other; each lasts for half a
second to five, and is mended. Leases are held on all nodes meanwhile. A request is refused if it comes to nothing
before its first token, and broken if it does after. Gateways are frozen, and not killed, which their clients notice.
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
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import Any

import httpx
import openai

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from fleet_boxes import Boxes, FleetGateway, boxes
from free_ports import free_address

from lmxd.fleet.client import FleetClient
from lmxd.fleet.members import MemberRole

SLOTS = 4


@dataclass
class Come:
    """The end of all requests so far. ``first``: seconds to the first token of each that had one."""

    whole: int = 0
    broken: int = 0
    refused: list[str] = field(default_factory=list)
    first: list[float] = field(default_factory=list)


class Clients:
    """They ask without end, a stream or a whole answer in turn, and begin a conversation every third time."""

    def __init__(self, gateways: Sequence[FleetGateway], count: int) -> None:
        self.come, self._ends = Come(), False
        self._gateways = [gateways[number % len(gateways)] for number in range(count)]
        self._clients = [self._client(gateway) for gateway in self._gateways]

    def _client(self, gateway: FleetGateway) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0, timeout=100)

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[Come]:
        async with asyncio.TaskGroup() as group:
            for number, client in enumerate(self._clients):
                group.create_task(self._ask_on(number, client))
            try:
                yield self.come
            finally:
                self._ends = True

    async def _ask_on(self, number: int, client: openai.AsyncOpenAI) -> None:
        turn = 0
        while not self._ends:
            turn += 1
            await self._ask(client, f"client {number}, {turn // 3}", stream=(number + turn) % 2 == 0)

    async def _ask(self, client: openai.AsyncOpenAI, text: str, *, stream: bool) -> None:
        asked: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": text}], "max_tokens": 20}
        begun, heard, whole = time.monotonic(), False, False
        try:
            if stream:
                async for chunk in await client.chat.completions.create(**asked, stream=True):
                    if not heard:
                        self.come.first.append(time.monotonic() - begun)
                    heard = True
                    whole = whole or any(choice.finish_reason == "stop" for choice in chunk.choices)
            else:
                whole = bool((await client.chat.completions.create(**asked)).choices)
                self.come.first.append(time.monotonic() - begun)
            said = "it ended early"
        except (openai.OpenAIError, httpx.HTTPError) as error:
            said = repr(error)
        if whole:
            self.come.whole += 1
        elif heard:
            self.come.broken += 1
        else:
            self.come.refused.append(said)


class Storm:
    """Faults of a fleet, one after the other. ``seen``: how often each was."""

    def __init__(self, fleet: Boxes, gateways: Sequence[FleetGateway], seed: int) -> None:
        self._fleet, self._gateways, self._random = fleet, gateways, random.Random(seed)
        self.seen: Counter[str] = Counter()
        self.double = 0
        """Looks at which an instance had more leases than slots, or the books did not add up."""

    async def fault(self) -> None:
        """One, at random; it is mended at the end."""
        node = self._random.choice(sorted(self._fleet.nodes))
        name, bring = self._random.choice(
            [
                ("node killed", lambda: self._killed(node)),
                ("node frozen", lambda: _frozen(self._fleet.nodes[node].process)),
                ("lmxd killed", lambda: self._lmxd_killed(node)),
                ("lmxd frozen", lambda: _frozen(self._fleet.lmxds[node].process)),
                ("nats-server killed", self._broker_killed),
                ("nats-server frozen", lambda: _frozen(self._fleet.broker.process)),
                ("gateway frozen", lambda: _frozen(self._random.choice(self._gateways).process)),
            ]
        )
        self.seen[name] += 1
        mend = await asyncio.to_thread(bring)
        await asyncio.sleep(self._random.uniform(0.5, 5.0))
        await asyncio.to_thread(mend)
        await asyncio.to_thread(self.look)

    def look(self) -> None:
        for lmxd in self._fleet.lmxds.values():
            with lmxd.client() as client:
                self.double += len(client.status().broken_invariants)
                self.double += sum(len(each.leases) > each.slots for each in client.instances().instances)

    def _killed(self, node: str) -> Callable[[], object]:
        self._fleet.nodes[node].end(signal.SIGKILL)
        return self._fleet.nodes[node].start

    def _lmxd_killed(self, node: str) -> Callable[[], object]:
        self._fleet.lmxds[node].stop(signal.SIGKILL)
        return self._fleet.lmxds[node].start

    def _broker_killed(self) -> Callable[[], object]:
        self._fleet.broker.end(signal.SIGKILL)
        return self._fleet.broker.start


def _frozen(process: Popen[bytes] | None) -> Callable[[], object]:
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    return lambda: os.kill(process.pid, signal.SIGCONT)


def leases(fleet: Boxes) -> set[str]:
    """All that lmxds have, by name."""
    found = (lmxd.instances().values() for lmxd in fleet.lmxds.values())
    return {lease.lease for instances in found for each in instances for lease in each.leases}


async def measure(fleet: Boxes, gateways: Sequence[FleetGateway], faults: int, clients: int, seed: int) -> None:
    asking, storm = Clients(gateways, clients), Storm(fleet, gateways, seed)
    home = fleet.broker.box("desk", [MemberRole.OPERATOR])
    async with AsyncExitStack() as stack:
        program = await stack.enter_async_context(FleetClient(home))
        held = [await stack.enter_async_context(program.request("m", wait=60)) for _ in fleet.nodes]
        async with asking.asking() as come:
            begun = time.monotonic()
            for _ in range(faults):
                await storm.fault()
        seconds = time.monotonic() - begun
        lost = {lease.lease for lease in held} - await asyncio.to_thread(leases, fleet)
        await asyncio.to_thread(storm.look)
    print(", ".join(f"{count} x {name}" for name, count in sorted(storm.seen.items())))
    total = come.whole + come.broken + len(come.refused)
    print(f"{total} requests of {clients} clients in {seconds:.0f} s; broken streams {come.broken}; refused", end=" ")
    print(f"{len(come.refused)}; slowest first token {max(come.first):.1f} s")
    for said, count in Counter(come.refused).most_common(3):
        print(f"  {count} x {said[:300]}")
    print(f"double grants {storm.double}, lost leases {len(lost)} of {len(held)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("faults", 30), ("nodes", 3), ("clients", 8), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--shortest", action="store_true")
    given = parser.parse_args()
    count, faults = (2, 2) if given.shortest else (given.nodes, given.faults)
    model = {"m": {"slots": SLOTS, "play": {"token_seconds": 0.02}}}
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        names = [f"n{number}" for number in range(1, count + 1)]
        fleet = stack.enter_context(boxes(Path(place), dict.fromkeys(names, model)))
        section = {"listen": free_address(), "keys_file": f"{place}/other-keys"}
        other = FleetGateway(fleet.broker.box("g2", [MemberRole.GATEWAY], gateway=section))
        gateways = [fleet.gateway, stack.enter_context(other)]
        fleet.warm()
        asyncio.run(measure(fleet, gateways, faults, given.clients, given.seed))
    print(f"{os.cpu_count()} cores; load of others: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
