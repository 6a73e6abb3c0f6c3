"""Requests to the doors of nodes: over mutual TLS, on connections that are kept for the next."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from functools import partial
from typing import Final, cast

from msgspec import Struct

from lmxd.fleet import names
from lmxd.fleet.addresses import host_and_port
from lmxd.fleet.finding.errors import Away
from lmxd.fleet.gateway.connecting import ConnectTurns
from lmxd.fleet.gateway.watching import Watch
from lmxd.fleet.members import Member, MemberRole
from lmxd.fleet.reading import read
from lmxd.fleet.reports import NodeCard
from lmxd.gateway.answers.events import collected
from lmxd.gateway.http.chunks import BadAnswer
from lmxd.gateway.http.http1 import Head
from lmxd.gateway.http.kept_connections import KeptConnections
from lmxd.gateway.http.upstream import Exchange
from lmxd.gateway.http.upstream_call import UpstreamCall

CONNECT: Final = 4.0
"""Seconds for a connection and its TLS, which take milliseconds, but for a machine that has far too much to do."""
_KEPT: Final = 64
"""Connections to one node that wait for a request: its door closes what is idle for 20 s."""
_SIGN: Final = 2**16
"""Bytes of a sign of life, or of an error in its place."""


class _Alive(Struct):
    now: float


class DoorExchange(Exchange):
    """One request to a node, and its answer. ``heard``: when something of that came last, or the request was sent."""

    def __init__(self, node: str, kept: KeptConnections, call: UpstreamCall) -> None:
        keep = partial(kept.put, node) if call.is_framed else None
        super().__init__(bodiless=call.method == "HEAD", keep=keep)
        self.node = node
        self.heard = asyncio.get_running_loop().time()
        self.silent = False
        """It was ended here, for the node was as if frozen."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # TLS: nothing can be read from the descriptor itself

    def data_received(self, data: bytes) -> None:
        self.heard = asyncio.get_running_loop().time()
        super().data_received(data)

    @property
    def is_over(self) -> bool:
        return self._ended.is_set()

    def fall_silent(self) -> None:
        """End it: the node says nothing, whatever it is asked."""
        self.silent = True
        self._end(TimeoutError("it is silent"))

    def broken_off(self) -> Away:
        bad = isinstance(self._error, BadAnswer)
        return Away(self.node, f"it is no HTTP/1.1: {self._error}" if bad else self._error)


class Doors:
    """The doors of all nodes of a fleet. ``tls``: for connections with a gateway's certificate.

    ``told_time``: hears the clock of a node that gave a sign of life.
    """

    def __init__(self, tls: ssl.SSLContext, fleet: str, told_time: Callable[[str, float], None]) -> None:
        self._tls, self._fleet, self._told_time = tls, fleet, told_time
        self._kept, self._turns = KeptConnections(_KEPT), ConnectTurns()
        self._watch = Watch(self._probe)

    async def ask(self, card: NodeCard, call: UpstreamCall, *lines: str) -> tuple[DoorExchange, Head]:
        """A node's answer, of which the head has come, and which is the caller's to close. ``lines``: of the request.

        The node is watched until all has come, and the answer of one that falls silent breaks off. Raises Away if there
        is none.
        """
        exchange = await self._sent(card, call, lines)
        self._watch.over(card, exchange)
        try:
            return exchange, await exchange.head()
        except BaseException:
            exchange.close()
            raise

    async def _sent(
        self, card: NodeCard, call: UpstreamCall, lines: tuple[str, ...] = (), *, hurries: bool = False
    ) -> DoorExchange:
        """A request that is sent, on a kept connection if there is one. A door may close that just then, unread.

        ``hurries``: it passes those who wait for a turn to connect.
        """
        sent = (call.head(*lines), *((call.body,) if call.body else ()))
        while True:
            transport = self._kept.take(card.node)
            if transport is None:
                found = await (self._connected if hurries else self._in_turn)(card, call)
                if isinstance(found, DoorExchange):
                    found.send(*sent)
                    return found
                transport = found
            exchange = DoorExchange(card.node, self._kept, call)
            transport.set_protocol(exchange)
            exchange.connection_made(transport)
            exchange.send(*sent)
            self._watch.over(card, exchange)
            if not await exchange.was_closed() or exchange.silent:
                return exchange

    async def _in_turn(self, card: NodeCard, call: UpstreamCall) -> DoorExchange | asyncio.Transport:
        """A new connection, or one that has served another request while others connected. Raises Away."""
        async with self._turns.turn(card.node):
            return self._kept.take(card.node) or await self._connected(card, call)

    async def _connected(self, card: NodeCard, call: UpstreamCall) -> DoorExchange:
        """A new connection to the node that a card names, and to no other. Raises Away."""
        loop = asyncio.get_running_loop()
        member = Member(fleet=self._fleet, role=MemberRole.NODE, name=card.node)
        make = partial(DoorExchange, card.node, self._kept, call)
        try:
            host, port = host_and_port(card.address)
            async with asyncio.timeout(CONNECT):
                _, exchange = await loop.create_connection(make, host, port, ssl=self._tls, server_hostname=member.host)
        except (OSError, ValueError) as error:
            raise Away(card.node, getattr(error, "strerror", None) or str(error) or "no connection in time") from error
        return exchange

    async def _probe(self, card: NodeCard) -> None:
        """Ask for what its lmxd alone can say. Raises Away. An error is an answer, too: a frozen node has none."""
        exchange = await self._sent(card, UpstreamCall(method="GET", path=names.ALIVE, headers={}), hurries=True)
        with contextlib.closing(exchange):
            said = await collected(exchange, await exchange.head(), _SIGN)
        with contextlib.suppress(ValueError):
            self._told_time(card.node, read(said, _Alive).now)

    def forget(self, node: str) -> None:
        """Close the connections to a node that could not be reached."""
        self._kept.close(node)
