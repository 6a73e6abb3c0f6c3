"""The server's side of a connection: it reads calls, and sends answers and notifications."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, Protocol, cast

from lmxd.errors import LmxdError
from lmxd.rpc import framing
from lmxd.rpc.budgets import MAX_BUFFERED_OF_USER, Budget, Budgets
from lmxd.rpc.messages import Params
from lmxd.rpc.methods import grants
from lmxd.rpc.notifications import Notice
from lmxd.rpc.outgoing import Outgoing
from lmxd.rpc.peer import Peer, is_gone, peer_of
from lmxd.rpc.replies import Handled, reply
from lmxd.rpc.turns import Turns

MAX_IN_FLIGHT = 32
"""The most calls of a connection that are worked on at once. The next is read when one of these is answered."""
MAX_ON_THEIR_WAY = 256
"""The same for requests and holds before they are in the queue. The queue itself bounds how many wait in it."""
MAX_MALFORMED: Final = 100
"""Frames of a connection that are no calls, after which it is closed: it will not say anything sensible."""
_HALF_CLOSED_CHECK = 0.5

log = logging.getLogger(__name__)


class Handler(Protocol):
    """The daemon as the server sees it: it answers calls. A raised LmxdError becomes an error answer."""

    def call(self, connection: Connection, call: framing.Call, params: Params) -> Awaitable[Handled]: ...

    async def identify(self, peer: Peer) -> Peer:
        """The peer as it is treated. LmxdError ``not_permitted`` if it may not call any method."""
        ...

    def is_privileged(self, peer: Peer) -> bool:
        """Whether a peer's calls go before those of others."""
        ...

    def keeps(self, connection: Connection) -> bool:
        """Whether the connection waits for notifications, or holds leases, when no call is in flight."""
        ...

    def left(self, connection: Connection) -> None: ...


class Listener:
    """Makes a ``Connection`` of each client that connects, and counts those of each user."""

    def __init__(self, service: Handler) -> None:
        self.service = service
        self.connections: dict[int, Connection] = {}
        self.turns = Turns()
        self.buffer = bytearray(framing.MAX_FRAME)
        """The bytes that were read last, by whichever connection."""
        self._budgets = Budgets()
        self._ids = itertools.count(1)

    def __call__(self) -> Connection:
        return Connection(self, next(self._ids))

    def admit(self, connection: Connection) -> Budget:
        """Count a connection. LmxdError ``too_many`` if it is one too many."""
        privileged = self.service.is_privileged(connection.peer)
        budget = self._budgets.admit(connection, connection.peer.uid, privileged=privileged)
        self.connections[connection.id] = connection
        return budget

    async def close(self, grace: float = 2.0) -> None:
        """Close all connections, once their calls are answered, or after ``grace`` seconds."""
        calls = [task for connection in self.connections.values() for task in connection.calls()]
        if calls:
            await asyncio.wait(calls, timeout=grace)
        for connection in list(self.connections.values()):
            connection.close()

    def forget(self, connection: Connection, budget: Budget) -> None:
        del self.connections[connection.id]
        self._budgets.forget(connection, budget)
        self.turns.wait(budget)
        self.service.left(connection)


class Connection(asyncio.BufferedProtocol):
    """The connection of one client.

    A client that closes its socket has left. One that only shuts down its sending half still gets its answers.
    """

    peer: Peer
    _transport: asyncio.Transport
    _outgoing: Outgoing
    _budget: Budget

    def __init__(self, listener: Listener, id: int) -> None:
        self.id = id
        self.open = False
        """Whether it is known who it is, and its calls are answered."""
        self._listener = listener
        self._framer = framing.Framer()
        self._buffered = 0
        """The bytes of frames that its user's budget has."""
        self._malformed = 0
        self._paused = False
        self._calls: dict[asyncio.Task[None], framing.Call] = {}
        self._busy: Counter[bool] = Counter()
        """The number of calls that are worked on: requests and holds (True), and all others."""
        self._half_closed: asyncio.TimerHandle | None = None
        self._arrival: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> bool:
        """Whether a call is not worked on yet. While one is, no more are read."""
        return self._framer.has_line

    @property
    def unread(self) -> int:
        return self._outgoing.size

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one, but not by inheritance
        self.peer = peer_of(transport.get_extra_info("socket"))
        self._outgoing = Outgoing(self._transport, f"uid {self.peer.uid} pid {self.peer.pid}")
        self._arrival = asyncio.get_running_loop().create_task(self._arrive())

    async def _arrive(self) -> None:
        try:
            self.peer = await self._listener.service.identify(self.peer)
            if self._transport.is_closing():
                return
            self._budget = self._outgoing.budget = self._listener.admit(self)
        except LmxdError as why:
            self._refuse_and_close(framing.REFUSED, why.message, {"code": why.code, "remedy": why.remedy})
        except Exception:
            log.exception("uid %d pid %d could not be identified", self.peer.uid, self.peer.pid)
            self._transport.abort()
        else:
            self.open = True
            self._advance()

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._listener.buffer

    def buffer_updated(self, nbytes: int) -> None:
        behind = self._framer.size > 0
        with memoryview(self._listener.buffer) as read:
            self._framer.feed(read[:nbytes])
        self._advance(behind=behind)

    def _advance(self, *, behind: bool = True) -> None:
        """Wait for a turn if a call may begin. Read on if there is none, or it is ``behind`` no other."""
        if self._transport.is_closing():
            return
        try:
            waiting = self._framer.has_line
        except framing.FrameTooLong as error:
            self._refuse_and_close(framing.INVALID_REQUEST, str(error))
            return
        if self.open:
            self._count(waiting)
        pause = not self.open or (waiting and (behind or self._paused or not self._has_hands))
        if pause != self._paused and not self._transport.is_closing():
            self._paused = not self._paused
            (self._transport.pause_reading if self._paused else self._transport.resume_reading)()

    def _count(self, waiting: bool) -> None:
        """Tell its user's budget what it has read, and whether it has a call that may begin."""
        self._budget.buffered += self._framer.size - self._buffered
        self._buffered = self._framer.size
        if self._budget.buffered > MAX_BUFFERED_OF_USER and self._buffered:
            why = f"uid {self.peer.uid} has sent {MAX_BUFFERED_OF_USER} bytes of calls that are not finished"
            self._refuse_and_close(framing.REFUSED, why, {"code": "too_many", "remedy": "finish some"})
        elif waiting and self._has_hands:
            self._budget.wait(self)
            self._listener.turns.wait(self._budget)

    @property
    def _has_hands(self) -> bool:
        return not self._outgoing.stuck and self._busy[False] < MAX_IN_FLIGHT and self._busy[True] < MAX_ON_THEIR_WAY

    def take_turn(self) -> None:
        if self._transport.is_closing() or not self._has_hands:
            return
        with suppress(framing.FrameTooLong):  # so the next says, too
            if line := self._framer.take():
                self._take(framing.understand(line))
        self._advance()

    def _take(self, frame: framing.Call | framing.Malformed) -> None:
        if isinstance(frame, framing.Malformed):
            self.send(framing.error(frame.id, frame.code, frame.message, {"code": "invalid_request"}))
            self._malformed += 1
            if self._malformed >= MAX_MALFORMED:
                self._refuse_and_close(framing.INVALID_REQUEST, f"{self._malformed} frames were no calls")
            return
        task = asyncio.get_running_loop().create_task(self._answer(frame))
        self._calls[task] = frame
        self._work(grants(frame.name), 1)
        task.add_done_callback(self._answered)

    def _work(self, granting: bool, change: int) -> None:
        self._busy[granting] += change
        self._budget.busy[granting] += change

    async def _answer(self, call: framing.Call) -> None:
        service = self._listener.service
        answer = await reply(call, lambda call, params: service.call(self, call, params))
        if call.wants_answer:
            self.send(answer)

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._work(grants(self._calls.pop(task).name), -1)
        self._listener.turns.wait(self._budget)
        self._advance()
        if self._half_closed and self._is_idle:
            self._transport.close()

    @property
    def _is_idle(self) -> bool:
        return not (self._calls or self.waiting or self._listener.service.keeps(self))

    def calls(self) -> list[asyncio.Task[None]]:
        return list(self._calls)

    @contextmanager
    def queued(self) -> Iterator[None]:
        """While a call waits in the queue, it does not count as worked on."""
        self._work(True, -1)
        self._listener.turns.wait(self._budget)
        self._advance()
        try:
            yield
        finally:
            self._work(True, 1)

    def withdraw(self, id: framing.Id) -> list[asyncio.Task[None]]:
        """Cancel an unanswered request or hold, by the id of its call."""
        found = [task for task, call in self._calls.items() if call.id == id and grants(call.name)]
        for task in found:
            task.cancel()
        return found

    def close(self) -> None:
        self._transport.close()  # after all answers are sent

    def send(self, data: bytes) -> None:
        self._outgoing.send(data)

    def notify(self, notice: Notice) -> None:
        self.send(framing.notification(notice.notification, notice.model_dump(mode="json")))

    def pause_writing(self) -> None:
        self._outgoing.pause()

    def resume_writing(self) -> None:
        self._outgoing.resume()
        if self.open:
            self._listener.turns.wait(self._budget)
            self._advance()

    def eof_received(self) -> bool:
        """The client will send nothing more, as socat does at the end of its input. It may still read."""
        if self._half_closed is None:
            self._check_half_closed()
        return True

    def _check_half_closed(self) -> None:
        if self._transport.is_closing():
            return
        gone = is_gone(self._transport.get_extra_info("socket"))
        if gone or self._is_idle:
            self._transport.close()
            return
        self._half_closed = asyncio.get_running_loop().call_later(_HALF_CLOSED_CHECK, self._check_half_closed)

    def connection_lost(self, error: Exception | None) -> None:
        self.open = False
        self._outgoing.resume()
        if self._half_closed is not None:
            self._half_closed.cancel()
        if self.id in self._listener.connections:
            self._budget.buffered -= self._buffered
            self._listener.forget(self, self._budget)
        for task in list(self._calls):
            task.cancel()

    def _refuse_and_close(self, code: int, message: str, data: dict[str, Any] | None = None) -> None:
        self.open = False
        self.send(framing.error(None, code, message, data or {"code": "invalid_request"}))
        self._transport.close()
