"""The client, for scripts and agents: ``Client`` blocks, ``AsyncClient`` is for asyncio.

    with Client() as lmxd, lmxd.request("llama-3.1-8b") as lease:
        openai = OpenAI(base_url=lease.base_url, api_key=lease.api_key)

A lease is held by the connection unless said otherwise: when the client ends, however it
ends, the lease does. Every failure is an ``LmxdError`` with the daemon's code and remedy.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from pydantic import BaseModel

from lmxd.errors import EXIT_STATUS, LmxdError
from lmxd.rpc import framing
from lmxd.rpc import messages as m

SYSTEM_SOCKET = Path("/run/lmxd/lmxd.sock")
ANSWER_TIMEOUT = 30.0
"""Seconds within which ``Client`` wants an answer to everything but a request, which may wait in the queue."""
T = TypeVar("T", bound=BaseModel)
OnProgress = Callable[[m.Progress], None]
OnNotification = Callable[[str, dict[str, Any]], None]


def default_socket() -> Path:
    """LMXD_SOCKET, else the socket of a daemon of one's own if there is one, else the system's."""
    if named := os.environ.get("LMXD_SOCKET"):
        return Path(named)
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and (own := Path(runtime) / "lmxd.sock").exists():
        return own
    return SYSTEM_SOCKET


def _unavailable(path: Path, error: OSError) -> LmxdError:
    remedy = "start it with systemctl start lmxd, or name its socket with LMXD_SOCKET"
    if isinstance(error, PermissionError):
        return LmxdError("not_permitted", f"{path}: permission denied", "join the group lmxd: usermod -aG lmxd $USER")
    return LmxdError("daemon_unavailable", f"lmxd does not answer on {path}: {error.strerror or error}", remedy)


def _lost() -> LmxdError:
    return LmxdError("daemon_unavailable", "lmxd closed the connection", "see its log")


def _failure(error: dict[str, Any]) -> LmxdError:
    data = dict(error.get("data") or {})
    code = data.pop("code", "internal")
    remedy = str(data.pop("remedy", ""))
    return LmxdError(code if code in EXIT_STATUS else "internal", str(error.get("message")), remedy, data)


def _frame(id: int, method: str, params: dict[str, Any]) -> bytes:
    given = {key: value for key, value in params.items() if value is not None}
    return framing.encode({"id": id, "method": f"lmxd.{method}", "params": given})


class Lease(m.Granted):
    """A granted lease of a ``Client``; leaving its ``with`` block releases it."""

    _client: Client

    def release(self) -> None:
        self._client.release(self.lease)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(LmxdError):  # it may have ended by itself
            self.release()


class Client:
    """A blocking connection. Not to be shared between threads."""

    def __init__(self, path: Path | str | None = None, on_notification: OnNotification | None = None) -> None:
        self.path = Path(path) if path is not None else default_socket()
        self._notified = on_notification
        self._ids = itertools.count(1)
        self._lines: list[bytes] = []
        self._framer = framing.Framer()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(ANSWER_TIMEOUT)
        try:
            self._socket.connect(str(self.path))
        except OSError as error:
            self._socket.close()
            raise _unavailable(self.path, error) from error

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """For select: readable when something came, or when the daemon is gone."""
        return self._socket.fileno()

    def call(self, method: str, result: type[T], on_progress: OnProgress | None = None, **params: Any) -> T:
        """One call. ``on_progress`` is told where a waiting request stands."""
        id = next(self._ids)
        self._socket.settimeout(None if method == "request" else ANSWER_TIMEOUT)
        try:
            self._socket.sendall(_frame(id, method, params))
        except OSError as error:
            raise _unavailable(self.path, error) from error
        while True:
            message = self.receive()
            if "method" in message:
                self._notify(message, id, on_progress)
            elif message.get("id") in (id, None):
                if "error" in message:
                    raise _failure(message["error"])
                return result.model_validate(message["result"])

    def receive(self) -> dict[str, Any]:
        """The next message. LmxdError ``daemon_unavailable`` if the daemon closes the connection."""
        while not self._lines:
            try:
                data = self._socket.recv(65536)
            except OSError as error:
                raise _unavailable(self.path, error) from error
            if not data:
                raise _lost()
            self._lines = self._framer.feed(data)
        message: dict[str, Any] = json.loads(self._lines.pop(0))
        return message

    def _notify(self, message: dict[str, Any], id: int, on_progress: OnProgress | None) -> None:
        params = message.get("params", {})
        if message["method"] == "lmxd.progress":
            if on_progress and params.get("request") == id:
                on_progress(m.Progress.model_validate(params))
        elif self._notified:
            self._notified(message["method"], params)

    def request(
        self,
        model: str,
        *,
        ctx: int | None = None,
        slots: int | None = None,
        wait: float | None = None,
        hold: str = "connection",
        ttl: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> Lease:
        """Ask for a lease and wait for the answer. LmxdError says why not, with the figures in ``data``."""
        lease = self.call(
            "request", Lease, on_progress, model=model, ctx=ctx, slots=slots, wait=wait, hold=hold, ttl=ttl
        )
        lease._client = self
        return lease

    def release(self, lease: str) -> m.Released:
        return self.call("release", m.Released, lease=lease)

    def renew(self, lease: str, ttl: float | None = None) -> m.Renewed:
        return self.call("renew", m.Renewed, lease=lease, ttl=ttl)

    def cancel(self, ticket: str) -> m.Cancelled:
        return self.call("cancel", m.Cancelled, ticket=ticket)

    def status(self) -> m.Status:
        return self.call("status", m.Status)

    def devices(self) -> m.Devices:
        return self.call("devices", m.Devices)

    def instances(self) -> m.Instances:
        return self.call("instances", m.Instances)

    def queue(self) -> m.Queue:
        return self.call("queue", m.Queue)

    def models(self) -> m.Models:
        return self.call("models", m.Models)

    def logs(self, instance: str, lines: int = 100) -> m.Logs:
        return self.call("logs", m.Logs, instance=instance, lines=lines)


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
            raise _unavailable(self.path, error) from error
        self._task = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
            self._writer.write(_frame(id, method, params))
            if self._task.done():
                raise _lost()
            message = await future
        finally:
            self._waiting.pop(id, None)
            self._progress.pop(id, None)
        if "error" in message:
            raise _failure(message["error"])
        return result.model_validate(message["result"])

    async def _read(self) -> None:
        try:
            with suppress(OSError, ValueError):
                while line := await self._reader.readline():
                    self._take(json.loads(line))
        finally:  # whichever end closed it, nobody waits any longer
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(_lost())

    def _take(self, message: dict[str, Any]) -> None:
        if "method" not in message:
            future = self._waiting.get(message.get("id") or 0)
            if future and not future.done():
                future.set_result(message)
            return
        params = message.get("params", {})
        if message["method"] == "lmxd.progress":
            if told := self._progress.get(params.get("request")):
                told(m.Progress.model_validate(params))
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
        on_progress: OnProgress | None = None,
    ) -> AsyncLease:
        """Ask for a lease and wait for the answer; see ``Client.request``."""
        lease = await self.call(
            "request", AsyncLease, on_progress, model=model, ctx=ctx, slots=slots, wait=wait, hold=hold, ttl=ttl
        )
        lease._client = self
        return lease

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
