"""The client that blocks."""

from __future__ import annotations

import itertools
import json
import socket
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
from lmxd.rpc.messages import Cancelled, Granted, Logs, Released, Renewed
from lmxd.rpc.methods import QUEUED
from lmxd.rpc.notifications import Progress

ANSWER_TIMEOUT = 30.0
"""Seconds within which an answer is wanted to everything but a request, which may wait in the queue."""

T = TypeVar("T", bound=BaseModel)


class BlockingLease(Granted):
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
    """A blocking connection. Not to be shared between threads.

    If the daemon is restarted, a call finds it again within ``patience`` seconds, and renews the leases
    that the connection held before anything else.
    """

    def __init__(
        self,
        path: Path | str | None = None,
        on_notification: OnNotification | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self.path = Path(path) if path is not None else default_socket()
        self._notified = on_notification
        self._patience = patience
        self._ids = itertools.count(1)
        self._held: set[str] = set()
        self._connect()

    def _connect(self) -> None:
        self._lines: list[bytes] = []
        self._framer = framing.Framer(framing.MAX_ANSWER)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(ANSWER_TIMEOUT)
        try:
            self._socket.connect(str(self.path))
        except OSError as error:
            self._socket.close()
            raise unavailable(self.path, error) from error

    def reconnect(self) -> None:
        """Wait for the daemon to be back, and take up the leases that the connection held.

        LmxdError ``daemon_unavailable`` if it is not back in time. A lease that has ended is told
        of as a notification, as ever.
        """
        self.close()
        deadline = time.monotonic() + self._patience
        while True:
            try:
                self._connect()
                missed = [ended for lease in sorted(self._held) if (ended := self._take_up(lease))]
                self._lines += missed
                return
            except LmxdError as error:
                if error.code != "daemon_unavailable" or time.monotonic() > deadline:
                    raise
            time.sleep(PAUSE)

    def _take_up(self, lease: str) -> bytes | None:
        """None, or the frame that says that it has ended."""
        try:
            self._exchange("renew", Renewed, None, lease=lease)
        except LmxdError as error:
            return framing.notification("lmxd.lease_ended", ended_meanwhile(lease, error))
        return None

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """For select: readable when something came, or when the daemon is gone."""
        return self._socket.fileno()

    @property
    def has_message(self) -> bool:
        """Whether ``receive`` would answer from what has come already."""
        return bool(self._lines)

    def call(self, method: str, result: type[T], on_progress: OnProgress | None = None, **params: Any) -> T:
        """One call. ``on_progress`` is told where a waiting request stands; it is made again if the daemon restarts."""
        params = repeatable(method, params)
        lost_at: float | None = None
        while True:
            begun = time.monotonic()
            try:
                return self._exchange(method, result, on_progress, **params)
            except ConnectionLost:  # perhaps more than once: a dying daemon may still have taken the new connection
                lost_at = lost(lost_at, begun, self._patience)
            self.reconnect()

    def _exchange(self, method: str, result: type[T], on_progress: OnProgress | None, **params: Any) -> T:
        id = next(self._ids)
        self._socket.settimeout(None if method in QUEUED else ANSWER_TIMEOUT)
        try:
            self._socket.sendall(frame(id, method, params))
        except OSError as error:
            raise ConnectionLost from error
        while True:
            message = self.receive()
            if "method" in message:
                self._notify(message, id, on_progress)
            elif message.get("id") in (id, None):
                if "error" in message:
                    raise failure(message["error"])
                return result.model_validate(message["result"])

    def receive(self) -> dict[str, Any]:
        """The next message. LmxdError ``daemon_unavailable`` if the daemon closes the connection."""
        while not self._lines:
            try:
                data = self._socket.recv(65536)
            except TimeoutError as error:
                raise unavailable(self.path, error) from error
            except OSError as error:
                raise ConnectionLost from error
            if not data:
                raise ConnectionLost
            self._lines = self._framer.feed(data)
        message: dict[str, Any] = json.loads(self._lines.pop(0))
        return message

    def _notify(self, message: dict[str, Any], id: int, on_progress: OnProgress | None) -> None:
        params = message.get("params", {})
        if message["method"] == "lmxd.lease_ended":
            self._held.discard(params.get("lease"))
        if message["method"] == "lmxd.progress":
            if on_progress and params.get("request") == id:
                on_progress(Progress.model_validate(params))
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
        priority: int | None = None,
        exclusive: bool = False,
        cpu_spill: bool | None = None,
        deadline: float | None = None,
        max_instances: int | None = None,
        user: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> BlockingLease:
        """Ask for a lease and wait for the answer. LmxdError says why not, with the figures in ``data``."""
        lease = self.call(
            "request",
            BlockingLease,
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

    def hold(
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
        held = self.call("hold", Held, on_progress, bytes=size, device=device, name=name, wait=wait, hold=hold, ttl=ttl)
        if hold == "connection":
            self._held.add(held.lease)
        return held

    def adopt(self, lease: str, pid: int) -> Adopted:
        """Say which process uses a hold: its end ends the lease."""
        return self.call("adopt", Adopted, lease=lease, pid=pid)

    def release(self, lease: str) -> Released:
        self._held.discard(lease)
        return self.call("release", Released, lease=lease)

    def renew(self, lease: str, ttl: float | None = None) -> Renewed:
        return self.call("renew", Renewed, lease=lease, ttl=ttl)

    def cancel(self, ticket: str) -> Cancelled:
        return self.call("cancel", Cancelled, ticket=ticket)

    def status(self) -> Status:
        return self.call("status", Status)

    def devices(self) -> Devices:
        return self.call("devices", Devices)

    def instances(self) -> Instances:
        return self.call("instances", Instances)

    def queue(self) -> QueueInfo:
        return self.call("queue", QueueInfo)

    def models(self) -> Models:
        return self.call("models", Models)

    def logs(self, instance: str, lines: int = 100) -> Logs:
        return self.call("logs", Logs, instance=instance, lines=lines)
