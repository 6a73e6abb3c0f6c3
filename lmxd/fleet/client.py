"""Leases of a fleet for programs: which node is found as a gateway finds it, and then there is none between.

    async with FleetClient() as fleet, fleet.request("llama-3.1-8b", user="me") as lease:
        http = openai.DefaultAsyncHttpxClient(verify=fleet.tls)
        client = openai.AsyncOpenAI(base_url=lease.base_url, api_key=lease.api_key, http_client=http)

This box needs the certificate of an operator or of a gateway. Every failure is an ``LmxdError`` with a remedy.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import ssl
from collections.abc import AsyncIterator
from typing import Final, Self

from nats.aio.client import Client as Bus

from lmxd.errors import LmxdError
from lmxd.fleet import calls, clock, tls
from lmxd.fleet.aside import aside
from lmxd.fleet.bus import connect
from lmxd.fleet.calls import CallName, Direct, LeaseCall
from lmxd.fleet.choosing.prospects import Prospect, Sought
from lmxd.fleet.choosing.shares import FleetShares
from lmxd.fleet.choosing.table import NodeTable
from lmxd.fleet.finding.errors import Away, NodeRefusal
from lmxd.fleet.finding.finding import Finding, Uncounted
from lmxd.fleet.finding.places import QueuePlaces
from lmxd.fleet.finding.quotas import FleetQuotas
from lmxd.fleet.finding.wanted import WantedAnswer
from lmxd.fleet.hearing import HEARS, Hearing
from lmxd.fleet.home import FleetHome
from lmxd.fleet.lease_door import LeaseDoor
from lmxd.fleet.members import MemberRole
from lmxd.fleet.renewing import renew_if_due
from lmxd.gateway.requests.failures import status_of

_AGAIN: Final = 1.0
"""Seconds before a lease is renewed again, when that failed."""
_LOOK: Final = 0.5
"""Seconds between two looks whether a node that was asked still speaks."""
_LOADS: Final = 900.0
"""Seconds that an instance may take to load, beyond the time in a queue."""


class FleetClient:
    """Asks a fleet for leases. ``home``: of this box, found by default as lmxctl does. ``tls``: to connect to nodes."""

    def __init__(self, home: FleetHome | None = None, role: MemberRole = MemberRole.OPERATOR) -> None:
        """LmxdError ``config`` if this box has no certificate of that role."""
        self._home, self._role = home or FleetHome.of_this_box(), role
        self.tls: ssl.SSLContext = tls.nodes_context(self._home, role)
        self._table = NodeTable()
        below = random.SystemRandom().randrange
        self._quotas = FleetQuotas(self._home.settings.users, FleetShares(self._table), clock.now)
        self._finding = Finding(self._table, QueuePlaces(self._table), Uncounted(), below, clock.now)

    async def __aenter__(self) -> Self:
        await aside(lambda: renew_if_due(self._home, self._role))
        self._spoken, self._since = asyncio.Event(), asyncio.get_running_loop().time()
        hearing = Hearing(self._table, self._told, clock.now)
        self._bus: Bus = await connect(self._home, self._role, lost=hearing.lost, found=hearing.found)
        self._heard = asyncio.create_task(hearing.run(self._bus))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._heard.cancel()
        await self._bus.close()

    @contextlib.asynccontextmanager
    async def request(
        self, model: str, *, user: str | None = None, ctx: int | None = None, wait: float = 0.0
    ) -> AsyncIterator[Direct]:
        """A lease at the node that serves it first, renewed for as long as the block lasts, and then given back.

        ``user``: for whom, within that user's limits in fleet.yaml here; by default this box's own. ``ctx``: tokens,
        where the usual context is not enough. ``wait``: the most seconds in queues. LmxdError if no node has it to
        give.
        """
        await self._known(model)
        wanted = WantedAnswer(sought=Sought(model=model, ctx=ctx or 0), user=user, wait=wait, since=clock.now())
        async with self._quotas.let_in(wanted, lambda _: None) as placed:
            asker = _LeaseAsker(self._bus, self._table, self._quotas, placed)
            lease = await self._finding.answer(placed, asker, lambda _: None)
            door = LeaseDoor(lease, self.tls)
            renewing = asyncio.create_task(_renewed(door, lease.ttl / 3))
            try:
                yield lease
            finally:
                renewing.cancel()
                with contextlib.suppress(LmxdError):  # it ends by its TTL
                    await door.release()

    def _told(self, _: str, __: float) -> None:
        self._spoken.set()
        self._quotas.heard()

    async def _known(self, model: str) -> None:
        """Wait until all nodes that have the model are heard, or each has had the time to speak since this began."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._since + HEARS):
                while not self._all_spoke(model):
                    self._spoken.clear()
                    await self._spoken.wait()

    def _all_spoke(self, model: str) -> bool:
        having = [node for node in self._table.nodes.values() if model in node.offered]
        return bool(having) and all(self._table.is_alive(node.name, clock.now()) for node in having)


class _LeaseAsker:
    """Asks nodes for one lease."""

    def __init__(self, bus: Bus, table: NodeTable, quotas: FleetQuotas, wanted: WantedAnswer) -> None:
        self._bus, self._table, self._quotas, self._wanted = bus, table, quotas, wanted
        self._key = secrets.token_hex(16)

    async def ask(self, prospect: Prospect, wait: float | None) -> Direct:
        """A node's lease. It is watched by its heartbeats. Raises Away, or NodeRefusal."""
        name, wanted, now = prospect.node, self._wanted, clock.now()
        stated = self._quotas.stated(wanted.user, name, now - wanted.since)
        said = LeaseCall(
            model=wanted.sought.model,
            ctx=wanted.sought.ctx or None,
            wait=wait or 0.0,
            waited=stated.waited if wanted.user is not None else 0.0,
            used_elsewhere=stated.used_elsewhere,
            weight=stated.weight,
            user=wanted.user,
            idempotency_key=self._key,
        )
        self._table.asked(wanted.sought, prospect, now)
        seconds = (wait or 0.0) + _LOADS
        asked = asyncio.create_task(calls.ask(self._bus, name, CallName.REQUEST, said, Direct, seconds))
        try:
            while not asked.done():
                await asyncio.wait((asked,), timeout=_LOOK)
                if not asked.done() and not self._table.nodes[name].speaks(clock.now()):
                    raise Away(name, "it is silent")
            return await asked
        except LmxdError as error:
            if isinstance(error, Away) or error.code == "daemon_unavailable":
                self._table.failed(name, clock.now())
                raise error if isinstance(error, Away) else Away(name, error.message) from error
            raise NodeRefusal(name, status_of(error), error) from error
        finally:
            self.drop(asked)

    def drop(self, asked: asyncio.Task[Direct]) -> None:
        """Nobody uses the lease. One that is granted all the same ends by its TTL."""
        asked.cancel()
        asked.add_done_callback(lambda task: task.cancelled() or task.exception())


async def _renewed(door: LeaseDoor, period: float) -> None:
    """Keep a lease alive. A node that does not answer is asked again soon: its lease lives for as long as it said."""
    pause = period
    while True:
        await asyncio.sleep(pause)
        pause = _AGAIN
        with contextlib.suppress(LmxdError):
            await door.renew()
            pause = period
