"""The client for asyncio."""

from __future__ import annotations

import asyncio
import itertools
import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel

from lmxd.errors import LmxdError
from lmxd.rpc import framing
from lmxd.rpc import holds as h
from lmxd.rpc import messages as m
from lmxd.rpc import notifications as n
from lmxd.rpc.client.wire import OnNotification, OnProgress, default_socket, failure, frame, lost, unavailable

T = TypeVar("T", bound=BaseModel)


class AsyncLease(m.Granted):
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
    """A connection for asyncio: ``async with AsyncClient() as lmxd``. Calls may overlap."""

    def __init__(self, path: Path | str | None = None, on_notification: OnNotification | None = None) -> None:
        self.path = Path(path) if path is not None else default_socket()
        self._notified = on_notification
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._progress: dict[int, OnProgress] = {}

    async def __aenter__(self) -> Self:
        try:
            self._reader, self._writer = await asyncio.open_unix_connection(self.path, limit=2 * framing.MAX_FRAME)
        except OSError as error:
            raise unavailable(self.path, error) from error
        self._task = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    async def call(self, method: str, result: type[T], on_progress: OnProgress | None = None, **params: Any) -> T:
        """One call; see ``Client.call``. Cancelling the task cancels the wait, not the request: close to end that."""
        id = next(self._ids)
        future = self._waiting[id] = asyncio.get_running_loop().create_future()
        if on_progress:
            self._progress[id] = on_progress
        try:
            self._writer.write(frame(id, method, params))
            if self._task.done():
                raise lost()
            message = await future
        finally:
            self._waiting.pop(id, None)
            self._progress.pop(id, None)
        if "error" in message:
            raise failure(message["error"])
        return result.model_validate(message["result"])

    async def _read(self) -> None:
        try:
            with suppress(OSError, ValueError):
                while line := await self._reader.readline():
                    self._take(json.loads(line))
        finally:  # whichever end closed it, nobody waits any longer
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(lost())

    def _take(self, message: dict[str, Any]) -> None:
        if "method" not in message:
            future = self._waiting.get(message.get("id") or 0)
            if future and not future.done():
                future.set_result(message)
            return
        params = message.get("params", {})
        if message["method"] == "lmxd.progress":
            if told := self._progress.get(params.get("request")):
                told(n.Progress.model_validate(params))
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
        )
        lease._client = self
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
    ) -> h.Held:
        """A lease of ``size`` bytes on one device, for a process of one's own."""
        return await self.call(
            "hold", h.Held, on_progress, bytes=size, device=device, name=name, wait=wait, hold=hold, ttl=ttl
        )

    async def adopt(self, lease: str, pid: int) -> h.Adopted:
        """Say which process uses a hold: its end ends the lease."""
        return await self.call("adopt", h.Adopted, lease=lease, pid=pid)

    async def release(self, lease: str) -> m.Released:
        return await self.call("release", m.Released, lease=lease)

    async def renew(self, lease: str, ttl: float | None = None) -> m.Renewed:
        return await self.call("renew", m.Renewed, lease=lease, ttl=ttl)

    async def cancel(self, ticket: str) -> m.Cancelled:
        return await self.call("cancel", m.Cancelled, ticket=ticket)

    async def status(self) -> m.Status:
        return await self.call("status", m.Status)

    async def devices(self) -> m.Devices:
        return await self.call("devices", m.Devices)

    async def instances(self) -> m.Instances:
        return await self.call("instances", m.Instances)

    async def queue(self) -> m.Queue:
        return await self.call("queue", m.Queue)

    async def models(self) -> m.Models:
        return await self.call("models", m.Models)
