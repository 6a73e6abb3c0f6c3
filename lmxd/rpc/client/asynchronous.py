"""The client for asyncio."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel

from lmxd.errors import LmxdError
from lmxd.rpc import framing
from lmxd.rpc.books import Devices, Instances, Models, QueueInfo, Status
from lmxd.rpc.client.wire import (
    PATIENCE,
    PAUSE,
    ConnectionLost,
    OnNotification,
    OnProgress,
    default_socket,
    ended_meanwhile,
    failure,
    frame,
    lost,
    repeatable,
    unavailable,
)
from lmxd.rpc.holds import Adopted, Held
from lmxd.rpc.messages import Cancelled, Granted, Released, Renewed
from lmxd.rpc.methods import QUEUED
from lmxd.rpc.notifications import Progress

T = TypeVar("T", bound=BaseModel)


class AsyncLease(Granted):
    """A granted lease of an ``AsyncClient``; leaving its ``async with`` block releases it."""

    _client: AsyncClient

    async def release(self) -> None:
        await self._client.release(self.lease)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        with suppress(LmxdError):
            await self.release()


class AsyncClient:
    """As ``Client`` for asyncio: ``async with AsyncClient() as lmxd``. Calls may overlap."""

    def __init__(
        self, path: Path | str | None = None, on_notification: OnNotification | None = None, patience: float = PATIENCE
    ) -> None:
        self.path = Path(path) if path is not None else default_socket()
        self._notified = on_notification
        self._patience = patience
        self._held: set[str] = set()
        self._connections = 0
        self._returning: asyncio.Task[None] | None = None
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._progress: dict[int, OnProgress] = {}
        self._granting: set[int] = set()
        """Calls for leases that the daemon has not answered yet, whether or not anybody waits for it still."""

    async def __aenter__(self) -> Self:
        await self._connect()
        return self

    async def _connect(self) -> None:
        try:
            self._reader, self._writer = await asyncio.open_unix_connection(self.path, limit=framing.MAX_ANSWER)
        except OSError as error:
            raise unavailable(self.path, error) from error
        self._connections += 1
        self._task = asyncio.create_task(self._read(self._connections))

    async def __aexit__(self, *_: object) -> None:
        self._patience = 0
        for task in filter(None, (self._task, self._returning)):
            task.cancel()
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    def _return(self, number: int) -> asyncio.Task[None]:
        """Find the daemon again, once for all whose connection is lost; it goes on whoever of them is cancelled."""
        if self._returning is None or self._returning.done():
            self._returning = asyncio.create_task(self._reconnect(number))
            self._returning.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._returning

    async def _reconnect(self, number: int) -> None:
        """Leases that the connection of that number held are taken up again."""
        if self._connections != number:
            return
        deadline = time.monotonic() + self._patience
        while True:
            self._writer.close()
            try:
                await self._connect()
                for lease in sorted(self._held):
                    await self._take_up(lease)
                return
            except LmxdError as error:  # a dying daemon may still have taken the new connection
                if error.code != "daemon_unavailable" or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(PAUSE)

    async def _take_up(self, lease: str) -> None:
        try:
            await self._exchange("renew", Renewed, None, lease=lease)
        except LmxdError as error:
            ended = ended_meanwhile(lease, error)
            self._held.discard(lease)
            if self._notified:
                self._notified("lmxd.lease_ended", ended)

    async def call(self, method: str, result: type[T], on_progress: OnProgress | None = None, **params: Any) -> T:
        """One call; see ``Client.call``. A request whose task is cancelled is withdrawn: no lease of it is left."""
        params = repeatable(method, params)
        lost_at: float | None = None
        while True:
            connection, begun = self._connections, time.monotonic()
            try:
                return await self._exchange(method, result, on_progress, **params)
            except ConnectionLost:
                lost_at = lost(lost_at, begun, self._patience)
            await asyncio.shield(self._return(connection))

    async def _exchange(self, method: str, result: type[T], on_progress: OnProgress | None, **params: Any) -> T:
        id = next(self._ids)
        future = self._waiting[id] = asyncio.get_running_loop().create_future()
        if on_progress:
            self._progress[id] = on_progress
        if method in QUEUED:
            self._granting.add(id)
        try:
            if not self._say(id, method, params) or self._task.done():
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

    def _say(self, id: int, method: str, params: dict[str, Any]) -> bool:
        """Send a call; False if the connection is closed."""
        try:
            self._writer.write(frame(id, method, params))
        except RuntimeError:  # uvloop's word for it; asyncio says nothing
            return False
        return True

    def _withdraw(self, id: int, method: str, future: asyncio.Future[dict[str, Any]]) -> None:
        """Its caller wants it no longer. With its connection, if that is lost, it has ended already."""
        if id in self._granting:
            self._say(next(self._ids), "cancel", {"request": id})
        elif method in QUEUED and future.done() and not future.cancelled() and future.exception() is None:
            self._give_back(future.result())

    def _give_back(self, message: dict[str, Any]) -> None:
        """What was granted to somebody who does not wait for it any more."""
        if lease := message.get("result", {}).get("lease"):
            self._say(next(self._ids), "release", {"lease": lease})

    async def _read(self, connection: int) -> None:
        try:
            with suppress(OSError, ValueError):
                while line := await self._reader.readline():
                    self._take(json.loads(line))
        finally:  # whichever end closed it, nobody waits any longer
            self._granting.clear()
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(ConnectionLost())
            if self._held and self._patience:
                self._return(connection)  # nobody calls just now, but there are leases to be kept

    def _take(self, message: dict[str, Any]) -> None:
        if "method" not in message:
            id = message.get("id") or 0
            future = self._waiting.get(id)
            if future and not future.done():
                future.set_result(message)
            elif id in self._granting:
                self._give_back(message)
            self._granting.discard(id)
            return
        params = message.get("params", {})
        if message["method"] == "lmxd.lease_ended":
            self._held.discard(params.get("lease"))
        if message["method"] == "lmxd.progress":
            if told := self._progress.get(params.get("request")):
                told(Progress.model_validate(params))
        elif self._notified:
            self._notified(message["method"], params)

    async def request(
        self,
        model: str,
        *,
        ctx: int | None = None,
        slots: int | None = None,
        wait: float | None = None,
        hold: str = "connection",
        ttl: float | None = None,
        priority: int | None = None,
        exclusive: bool = False,
        cpu_spill: bool | None = None,
        deadline: float | None = None,
        max_instances: int | None = None,
        user: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> AsyncLease:
        """Ask for a lease and wait for the answer; see ``Client.request``."""
        lease = await self.call(
            "request",
            AsyncLease,
            on_progress,
            model=model,
            ctx=ctx,
            slots=slots,
            wait=wait,
            hold=hold,
            ttl=ttl,
            priority=priority,
            exclusive=exclusive or None,
            cpu_spill=cpu_spill,
            deadline=deadline,
            max_instances=max_instances,
            user=user,
        )
        lease._client = self
        if hold == "connection":
            self._held.add(lease.lease)
        return lease

    async def hold(
        self,
        size: int,
        *,
        device: str | None = None,
        name: str = "hold",
        wait: float | None = None,
        hold: str = "connection",
        ttl: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> Held:
        """A lease of ``size`` bytes on one device, for a process of one's own."""
        held = await self.call(
            "hold", Held, on_progress, bytes=size, device=device, name=name, wait=wait, hold=hold, ttl=ttl
        )
        if hold == "connection":
            self._held.add(held.lease)
        return held

    async def adopt(self, lease: str, pid: int) -> Adopted:
        """Say which process uses a hold: its end ends the lease."""
        return await self.call("adopt", Adopted, lease=lease, pid=pid)

    async def release(self, lease: str) -> Released:
        self._held.discard(lease)
        return await self.call("release", Released, lease=lease)

    async def renew(self, lease: str, ttl: float | None = None) -> Renewed:
        return await self.call("renew", Renewed, lease=lease, ttl=ttl)

    async def cancel(self, ticket: str) -> Cancelled:
        return await self.call("cancel", Cancelled, ticket=ticket)

    async def status(self) -> Status:
        return await self.call("status", Status)

    async def devices(self) -> Devices:
        return await self.call("devices", Devices)

    async def instances(self) -> Instances:
        return await self.call("instances", Instances)

    async def queue(self) -> QueueInfo:
        return await self.call("queue", QueueInfo)

    async def models(self) -> Models:
        return await self.call("models", Models)
