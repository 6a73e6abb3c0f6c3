"""The client for asyncio."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import deque
from pathlib import Path
from typing import Any, Final, Self

from lmxd.errors import LmxdError
from lmxd.rpc.client.asynchronous_calls import AsyncCalls
from lmxd.rpc.client.connecting import connect_soon
from lmxd.rpc.client.following import FollowedLeases
from lmxd.rpc.client.leases import AsyncLease
from lmxd.rpc.client.link import Link
from lmxd.rpc.client.wire import (
    CONNECT_TIMEOUT,
    PATIENCE,
    PAUSE,
    ConnectionLost,
    LeaseT,
    OnNotification,
    OnProgress,
    ResultT,
    default_socket,
    ended_meanwhile,
    failure,
    frame,
    lost,
    repeatable,
    unavailable,
)
from lmxd.rpc.holds import Held
from lmxd.rpc.messages import Renewed
from lmxd.rpc.methods import grants
from lmxd.rpc.notifications import Notification, Progress

_IN_FLIGHT: Final = 1.0
"""Seconds after which a daemon that lives has read what it was sent."""


class AsyncClient(AsyncCalls):
    """A connection for asyncio, else as ``Client``: ``async with AsyncClient() as lmxd``. Calls may overlap."""

    def __init__(
        self, path: Path | str | None = None, on_notification: OnNotification | None = None, patience: float = PATIENCE
    ) -> None:
        self.path = Path(path) if path is not None else default_socket()
        self._notified = on_notification
        self._patience = patience
        self._leases: FollowedLeases[AsyncLease] = FollowedLeases()
        self._connections = 0
        self._returning: asyncio.Task[None] | None = None
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._progress: dict[int, OnProgress] = {}
        self._let_go: deque[tuple[float, str]] = deque()
        """Leases that were let go a moment ago, or while there was no connection: perhaps the daemon does not know."""
        self._granting: dict[int, str] = {}
        """Calls for leases that the daemon has not answered, even if their callers have been cancelled: their methods.
        """

    @property
    def held(self) -> frozenset[str]:
        """The leases that end with this connection."""
        return frozenset(self._leases.held)

    def lease(self, lease: str) -> AsyncLease:
        """A lease that was granted here, as it is now: it may have moved. LmxdError ``unknown_lease`` if it has ended.

        The daemon is not asked: it tells of each move at once.
        """
        return self._leases.present(lease)

    @property
    def granting(self) -> frozenset[int]:
        """The ids of calls that may still be granted a lease, withdrawn ones too."""
        return frozenset(self._granting)

    async def __aenter__(self) -> Self:
        await self._connect()
        return self

    async def _connect(self) -> None:
        try:
            sock = await connect_soon(self.path, CONNECT_TIMEOUT)
            made = asyncio.get_running_loop().create_unix_connection(self._new_link, sock=sock)
            _, self._link = await made
        except OSError as error:
            raise unavailable(self.path, error) from error

    def _new_link(self) -> Link:
        self._connections += 1
        number = self._connections
        return Link(lambda line: self._take(json.loads(line)), lambda: self._lost(number))

    async def __aexit__(self, *_: object) -> None:
        self._patience = 0
        if self._returning is not None:
            self._returning.cancel()
        self._link.close()
        await self._link.ended()

    def let_go(self, lease: str) -> None:
        """Release a lease without waiting for an answer, which a daemon that is restarted meanwhile is told, too."""
        now = time.monotonic()
        self._leases.ended(lease)
        if self._link.say(frame(None, "release", {"lease": lease})):
            while self._let_go and now - self._let_go[0][0] > _IN_FLIGHT:
                self._let_go.popleft()
        self._let_go.append((now, lease))

    def _return(self, number: int) -> asyncio.Task[None]:
        """Reconnect, once for all calls that lost the connection. A cancelled caller does not stop it."""
        if self._returning is None or self._returning.done():
            self._returning = asyncio.create_task(self._reconnect(number))
            self._returning.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._returning

    async def _reconnect(self, number: int) -> None:
        """Connect again after connection ``number`` was lost, and renew the leases that it held."""
        if self._connections != number:
            return
        deadline = time.monotonic() + self._patience
        while True:
            self._link.abort()
            await self._link.ended()  # the calls that it had have failed by then
            try:
                await self._connect()
                for lease in sorted(self._leases.held):
                    await self._take_up(lease)
                for _, lease in self._let_go:
                    self._link.say(frame(None, "release", {"lease": lease}))
                self._let_go.clear()
                return
            except LmxdError as error:  # a dying daemon may still have taken the new connection
                if error.code != "daemon_unavailable" or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(PAUSE)

    async def _take_up(self, lease: str) -> None:
        try:
            renewed = await self._exchange("renew", Renewed, self._leases.renewal(lease))
        except LmxdError as error:
            ended = ended_meanwhile(lease, error)
            self._leases.ended(lease)
            if self._notified:
                self._notified(Notification.LEASE_ENDED, ended)
            return
        if (moved := self._leases.renewed(renewed)) and self._notified:
            self._notified(Notification.MOVED, moved.model_dump())

    async def _call(self, method: str, result: type[ResultT], /, **params: Any) -> ResultT:
        if method == "release":  # a reconnect shall not renew it, even if this call fails
            self._leases.ended(params["lease"])
        return await self._ask(method, result, params)

    async def _grant(
        self, method: str, result: type[LeaseT], on_progress: OnProgress | None, /, **params: Any
    ) -> LeaseT:
        lease = await self._ask(method, result, repeatable(params), on_progress)
        if isinstance(lease, AsyncLease):
            lease._release = self.release
        if isinstance(lease, AsyncLease | Held) and (method != "grow" or self._leases.has(lease.lease)):
            self._leases.took(lease)
        return lease

    async def _ask(
        self, method: str, result: type[ResultT], params: dict[str, Any], on_progress: OnProgress | None = None
    ) -> ResultT:
        """As ``Client._ask``. If the task of a request is cancelled, the request is withdrawn, and no lease is left."""
        lost_at: float | None = None
        while True:
            connection, begun = self._connections, time.monotonic()
            try:
                return await self._exchange(method, result, params, on_progress)
            except ConnectionLost:
                lost_at = lost(lost_at, begun, self._patience)
            await asyncio.shield(self._return(connection))

    async def _exchange(
        self, method: str, result: type[ResultT], params: dict[str, Any], on_progress: OnProgress | None = None
    ) -> ResultT:
        id = next(self._ids)
        said = frame(id, method, params)
        future = self._waiting[id] = asyncio.get_running_loop().create_future()
        if on_progress:
            self._progress[id] = on_progress
        if grants(method):
            self._granting[id] = method
        try:
            if not self._link.say(said):
                raise ConnectionLost
            message = await future
        except asyncio.CancelledError:
            self._withdraw(id, method, future)
            raise
        finally:
            self._waiting.pop(id, None)
            self._progress.pop(id, None)
        if "error" in message:
            raise failure(message["error"])
        return result.model_validate(message["result"])

    def _withdraw(self, id: int, method: str, future: asyncio.Future[dict[str, Any]]) -> None:
        """Cancel a call whose caller was cancelled. If its connection was lost, the call has ended already."""
        if id in self._granting:
            self._link.say(frame(next(self._ids), "cancel", {"request": id}))
        elif grants(method) and future.done() and not future.cancelled() and future.exception() is None:
            self._give_back(method, future.result())

    def _give_back(self, method: str, message: dict[str, Any]) -> None:
        """Release a lease that was granted to a cancelled caller. One that has grown for it is its holder's still."""
        if method != "grow" and (lease := message.get("result", {}).get("lease")):
            self._link.say(frame(next(self._ids), "release", {"lease": lease}))

    def _lost(self, connection: int) -> None:
        """The connection is closed, by either end: all calls fail."""
        self._granting.clear()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ConnectionLost())
        if (self._leases.held or self._let_go) and self._patience:
            self._return(connection)  # no call is in flight, but leases are to be renewed

    def _refused(self, message: dict[str, Any]) -> None:
        """An error without an id is about the connection, or about a call that lmxd could not read: any of them."""
        for future in self._waiting.values():
            if not future.done():
                future.set_result(message)

    def _take(self, message: dict[str, Any]) -> None:
        if "method" not in message:
            id = message.get("id")
            if id is None:
                self._refused(message)
                return
            future = self._waiting.get(id)
            if future and not future.done():
                future.set_result(message)
            elif id in self._granting:
                self._give_back(self._granting[id], message)
            self._granting.pop(id, None)
            return
        params = message.get("params", {})
        self._leases.heed(message)
        if message["method"] == Notification.PROGRESS:
            if told := self._progress.get(params.get("request")):
                told(Progress.model_validate(params))
        elif self._notified:
            self._notified(message["method"], params)
