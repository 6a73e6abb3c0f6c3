"""The server's side of a connection: it reads calls, and sends answers and notifications."""

from __future__ import annotations

import asyncio
import itertools
import logging
import select
from collections import Counter, deque
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol, cast

from pydantic import BaseModel, ValidationError

from lmxd.errors import LmxdError
from lmxd.rpc import framing
from lmxd.rpc.messages import Params
from lmxd.rpc.methods import METHODS, grants
from lmxd.rpc.notifications import Notice
from lmxd.rpc.peer import Peer, peer_of

MAX_CONNECTIONS = 4096
MAX_CONNECTIONS_PER_UID = 2048
MAX_IN_FLIGHT = 32
"""The most calls of a connection that are worked on at once. The next is read when one of these is answered."""
MAX_ON_THEIR_WAY = 256
"""The same for requests and holds before they are in the queue. The queue itself bounds how many wait in it."""
MAX_UNREAD = 256 * 1024
"""Bytes of answers that a client has not read, beyond which no more of its calls are read."""
PATIENCE = 5.0
"""Seconds that a client has to read them, before it is disconnected."""
MOST_UNREAD: Final = 64 * MAX_UNREAD
_HALF_CLOSED_CHECK = 0.5

log = logging.getLogger(__name__)


class Handler(Protocol):
    """The daemon as the server sees it: it answers calls. A raised LmxdError becomes an error answer."""

    def call(self, connection: Connection, id: framing.Id, method: str, params: Params) -> Awaitable[BaseModel]: ...

    def admits(self, peer: Peer) -> bool:
        """Whether a peer may call any method."""
        ...

    def keeps(self, connection: Connection) -> bool:
        """Whether the connection waits for notifications, or holds leases, when no call is in flight."""
        ...

    def left(self, connection: Connection) -> None: ...


class Listener:
    """Counts connections, and makes a ``Connection`` of each."""

    def __init__(self, service: Handler) -> None:
        self.service = service
        self.connections: dict[int, Connection] = {}
        self._per_uid: Counter[int] = Counter()
        self._ids = itertools.count(1)

    def __call__(self) -> Connection:
        return Connection(self, next(self._ids))

    def admit(self, connection: Connection) -> LmxdError | None:
        """Count a connection, or return the error that refuses it."""
        uid = connection.peer.uid
        if not self.service.admits(connection.peer):
            return LmxdError("not_permitted", f"uid {uid} may not use lmxd", "join the group lmxd")
        if len(self.connections) >= MAX_CONNECTIONS:
            return LmxdError("too_many", f"lmxd has {MAX_CONNECTIONS} connections already", "close some")
        if self._per_uid[uid] >= MAX_CONNECTIONS_PER_UID:
            return LmxdError("too_many", f"uid {uid} has {MAX_CONNECTIONS_PER_UID} connections already", "close some")
        self._per_uid[connection.peer.uid] += 1
        self.connections[connection.id] = connection
        return None

    async def close(self, grace: float = 2.0) -> None:
        """Close all connections, once their calls are answered, or after ``grace`` seconds."""
        calls = [task for connection in self.connections.values() for task in connection.calls()]
        if calls:
            await asyncio.wait(calls, timeout=grace)
        for connection in list(self.connections.values()):
            connection.close()

    def forget(self, connection: Connection) -> None:
        if self.connections.pop(connection.id, None):
            self._per_uid[connection.peer.uid] -= 1
            self.service.left(connection)


class Connection(asyncio.Protocol):
    """The connection of one client.

    A client that closes its socket has left. One that only shuts down its sending half still gets its answers.
    """

    peer: Peer
    _transport: asyncio.Transport

    def __init__(self, listener: Listener, id: int) -> None:
        self.id = id
        self.open = False
        self._listener = listener
        self._framer = framing.Framer()
        self._lines: deque[bytes] = deque()
        """Frames that are read but not worked on. While there are any, no more are read."""
        self._paused = False
        self._calls: dict[asyncio.Task[None], framing.Call] = {}
        self._busy: Counter[bool] = Counter()
        """The number of calls that are worked on: requests and holds (True), and all others."""
        self._unread: asyncio.TimerHandle | None = None
        self._half_closed: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """The number of calls that are not worked on yet."""
        return len(self._lines)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one, but not by inheritance
        self.peer = peer_of(transport.get_extra_info("socket"))
        self._transport.set_write_buffer_limits(high=MAX_UNREAD)
        if why := self._listener.admit(self):
            self._refuse_and_close(framing.REFUSED, why.message, {"code": why.code, "remedy": why.remedy})
            return
        self.open = True

    def data_received(self, data: bytes) -> None:
        try:
            self._lines += self._framer.feed(data)
        except framing.FrameTooLong:
            self._refuse_and_close(framing.INVALID_REQUEST, f"a frame is longer than {framing.MAX_FRAME} bytes")
            return
        self._advance()

    def _advance(self) -> None:
        """Work on the frames that were read, within the limits; read more when none is left."""
        while self.open and self._lines and self._has_hands:
            self._take(framing.understand(self._lines.popleft()))
        if bool(self._lines) != self._paused and not self._transport.is_closing():
            self._paused = bool(self._lines)
            (self._transport.pause_reading if self._paused else self._transport.resume_reading)()

    @property
    def _has_hands(self) -> bool:
        return self._unread is None and self._busy[False] < MAX_IN_FLIGHT and self._busy[True] < MAX_ON_THEIR_WAY

    def _take(self, frame: framing.Call | framing.Malformed) -> None:
        if isinstance(frame, framing.Malformed):
            self.send(framing.error(frame.id, frame.code, frame.message, {"code": "invalid_request"}))
            return
        task = asyncio.get_running_loop().create_task(self._answer(frame))
        self._calls[task] = frame
        self._busy[grants(frame.name)] += 1
        task.add_done_callback(self._answered)

    async def _answer(self, call: framing.Call) -> None:
        try:
            if call.name not in METHODS:
                answer = framing.error(
                    call.id,
                    framing.METHOD_NOT_FOUND,
                    f"there is no method {call.method!r}: lmxd.describe lists them",
                    {"code": "unknown_method"},
                )
            else:
                params = METHODS[call.name].params.model_validate(call.params)
                value = await self._listener.service.call(self, call.id, call.name, params)
                answer = framing.result(call.id, value.model_dump(mode="json"))
        except ValidationError as error:
            message = "; ".join(_problem(e) for e in error.errors())
            answer = framing.error(call.id, framing.INVALID_PARAMS, message, {"code": "invalid_params"})
        except LmxdError as error:
            data = {"code": error.code, "remedy": error.remedy, **error.data}
            answer = framing.error(call.id, framing.REFUSED, error.message, data)
        except asyncio.CancelledError:
            answer = framing.error(call.id, framing.REFUSED, "the client withdrew it", {"code": "cancelled"})
        except Exception:
            log.exception("%s failed", call.method)
            message = "lmxd failed at this: see its log"
            answer = framing.error(call.id, framing.INTERNAL_ERROR, message, {"code": "internal"})
        if call.wants_answer:
            self.send(answer)

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._busy[grants(self._calls.pop(task).name)] -= 1
        self._advance()
        if self._half_closed and not self._calls and not self._listener.service.keeps(self):
            self._transport.close()

    def calls(self) -> list[asyncio.Task[None]]:
        """The calls in flight."""
        return list(self._calls)

    @contextmanager
    def queued(self) -> Iterator[None]:
        """While a call waits in the queue, it does not count as worked on."""
        self._busy[True] -= 1
        self._advance()
        try:
            yield
        finally:
            self._busy[True] += 1

    def withdraw(self, id: framing.Id) -> list[asyncio.Task[None]]:
        """Cancel an unanswered request or hold, by the id of its call."""
        found = [task for task, call in self._calls.items() if call.id == id and grants(call.name)]
        for task in found:
            task.cancel()
        return found

    def close(self) -> None:
        """Close the connection after all answers are sent."""
        self._transport.close()

    def send(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        if self._unread is not None and self._transport.get_write_buffer_size() > MOST_UNREAD:
            self._cut_off()  # the limit is checked before: one long answer may exceed it
        else:
            self._transport.write(data)

    def notify(self, notice: Notice) -> None:
        self.send(framing.notification(notice.notification, notice.model_dump(mode="json")))

    def pause_writing(self) -> None:
        self._unread = asyncio.get_running_loop().call_later(PATIENCE, self._cut_off)

    def resume_writing(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        self._advance()

    def _cut_off(self) -> None:
        """Disconnect a client that does not read, rather than leave out a part of its notifications."""
        log.warning("uid %d pid %d does not read its answers: cut off", self.peer.uid, self.peer.pid)
        self._transport.abort()

    def eof_received(self) -> bool:
        """The client will send nothing more, as socat does at the end of its input. It may still read."""
        if self._half_closed is None:
            self._check_half_closed()
        return True

    def _check_half_closed(self) -> None:
        if self._transport.is_closing():
            return
        poller = select.poll()
        poller.register(self._transport.get_extra_info("socket").fileno(), 0)
        gone = any(event & select.POLLHUP for _, event in poller.poll(0))
        if gone or not (self._calls or self._lines or self._listener.service.keeps(self)):
            self._transport.close()
            return
        loop = asyncio.get_running_loop()
        self._half_closed = loop.call_later(_HALF_CLOSED_CHECK, self._check_half_closed)

    def connection_lost(self, error: Exception | None) -> None:
        self.open = False
        for timer in filter(None, (self._half_closed, self._unread)):
            timer.cancel()
        self._listener.forget(self)
        for task in list(self._calls):
            task.cancel()

    def _refuse_and_close(self, code: int, message: str, data: dict[str, Any] | None = None) -> None:
        self.open = False
        self.send(framing.error(None, code, message, data or {"code": "invalid_request"}))
        self._transport.close()


def _problem(error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"] if not str(part).startswith(("constrained-", "function-")))
    if error["type"] == "extra_forbidden":
        return f"{key}: unknown parameter"
    if error["type"] == "missing":
        return f"{key}: missing"
    return f"{key} is {error['input']!r}: {error['msg']}"
