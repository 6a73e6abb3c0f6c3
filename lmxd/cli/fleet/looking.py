"""An operator sees a fleet, and asks its nodes: a loop in a thread of its own listens meanwhile."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import nats.errors
from nats.aio.client import Client as Bus

from lmxd.errors import LmxdError
from lmxd.fleet import clock
from lmxd.fleet.aside import aside
from lmxd.fleet.bus import connect
from lmxd.fleet.calls import CallName, ask
from lmxd.fleet.choosing.table import NodeTable
from lmxd.fleet.hearing import Hearing
from lmxd.fleet.home import FleetHome
from lmxd.fleet.members import MemberRole
from lmxd.fleet.names import MEMBERS
from lmxd.fleet.reading import read
from lmxd.fleet.renewing import renew_if_due
from lmxd.fleet.seen import SeenNode, seen
from lmxd.fleet.seen_users import SeenUser, users
from lmxd.rpc.messages import Params, Result

_CONNECTS: Final = 5.0
"""Seconds that a broker has to answer."""
_EACH: Final = 1.3
"""Seconds in which every living node speaks, by its heartbeat."""
_SETTLES: Final = 3.0
"""Seconds after which a node that has not spoken is silent."""
_LOOK: Final = 0.05
"""Seconds between two looks whether all have spoken."""
_ANSWERS: Final = 5.0
"""Seconds that a node has to answer a question."""
_SAYS: Final = 1.0
"""Seconds that a broker has to say who belongs to the fleet."""
T = TypeVar("T")
AnswerT = TypeVar("AnswerT", bound=Result)


class FleetView:
    """The nodes by their cards and heartbeats. LmxdError on entering, if no broker answers."""

    def __init__(self, home: FleetHome) -> None:
        self.home = home
        self._table = NodeTable()
        self._hearing = Hearing(self._table, lambda node, now: None, clock.now)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._bus: Bus | None = None
        self._members: list[str] = []
        self._begun = time.monotonic()

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._do(self._begin())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def nodes(self) -> list[SeenNode]:
        """All that have a card, or were members when this was entered, by name, as they are now."""
        return self._do(self._seen())

    def users(self) -> list[SeenUser]:
        """All of whom nodes say something, with their limits by this box's fleet.yaml; who used most is first."""
        return users(self.nodes(), self.home.settings.users, {})

    def settled(self) -> list[SeenNode]:
        """The same once every one has spoken, or would have."""
        while True:
            found, passed = self.nodes(), time.monotonic() - self._begun
            if passed >= _SETTLES or (passed >= _EACH and all(node.alive or node.joined for node in found)):
                return found
            time.sleep(_LOOK)

    def ask(self, node: str, name: CallName, params: Params, answer: type[AnswerT]) -> AnswerT:
        """One node's answer. LmxdError: its own, or ``daemon_unavailable``."""
        assert self._bus is not None
        return self._do(ask(self._bus, node, name, params, answer, _ANSWERS))

    def ask_all(
        self, nodes: Iterable[str], name: CallName, params: Params, answer: type[AnswerT]
    ) -> dict[str, AnswerT | LmxdError]:
        """The answers of several nodes at once, or why there is none, by node."""
        return self._do(self._asked(list(nodes), name, params, answer))

    async def _asked(
        self, nodes: list[str], name: CallName, params: Params, answer: type[AnswerT]
    ) -> dict[str, AnswerT | LmxdError]:
        async def one(node: str) -> AnswerT | LmxdError:
            assert self._bus is not None
            try:
                return await ask(self._bus, node, name, params, answer, _ANSWERS)
            except LmxdError as error:
                return error

        return dict(zip(nodes, await asyncio.gather(*map(one, nodes)), strict=True))

    async def _begin(self) -> None:
        brokers = ", ".join(self.home.settings.brokers)
        await aside(lambda: renew_if_due(self.home, MemberRole.OPERATOR))
        wanted = connect(self.home, MemberRole.OPERATOR, lost=self._hearing.lost, found=self._hearing.found)
        try:
            async with asyncio.timeout(_CONNECTS):
                self._bus = await wanted
        except TimeoutError:
            what = f"no broker of the fleet {self.home.settings.fleet} answers at {brokers}"
            raise LmxdError("daemon_unavailable", what, "see whether lmxd fleet broker runs there") from None
        self._begun = time.monotonic()
        self._members = await _members(self._bus)
        self._heard = self._loop.create_task(self._hearing.run(self._bus))

    async def _seen(self) -> list[SeenNode]:
        return seen(self._table, clock.now(), self._members)

    def _do(self, wanted: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(wanted, self._loop).result()

    def _end(self) -> None:
        self._do(self._leave())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _leave(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if self._bus is not None:
            with suppress(Exception):  # it may be gone already
                await self._bus.close()
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


async def _members(bus: Bus) -> list[str]:
    """The nodes that have joined, as a broker knows them; none if no broker says so."""
    with suppress(nats.errors.Error, ValueError):
        return read((await bus.request(MEMBERS, b"", timeout=_SAYS)).data, list[str])
    return []
