"""The client that blocks."""

from __future__ import annotations

import itertools
import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from lmxd.errors import LmxdError
from lmxd.rpc import framing
from lmxd.rpc.client.blocking_calls import BlockingCalls
from lmxd.rpc.client.connecting import connect
from lmxd.rpc.client.following import FollowedLeases
from lmxd.rpc.client.leases import BlockingLease
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

ANSWER_TIMEOUT = 30.0
"""Seconds to wait for an answer. Requests and holds have no timeout, for they may wait in the queue."""


class Client(BlockingCalls):
    """A blocking connection, for one thread.

    If the daemon is restarted, a call reconnects within ``patience`` seconds. The leases that the connection held are
    renewed first.
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
        self._leases: FollowedLeases[BlockingLease] = FollowedLeases()
        self._connect()

    def _connect(self) -> None:
        self._missed: list[bytes] = []
        """Notifications that came while it was not connected."""
        self._framer = framing.Framer(framing.MAX_ANSWER)
        try:
            self._socket = connect(self.path, CONNECT_TIMEOUT)
        except OSError as error:
            raise unavailable(self.path, error) from error

    def reconnect(self) -> None:
        """Wait until the daemon is back, and renew the leases that the connection held.

        LmxdError ``daemon_unavailable`` if it is not back in time. If a lease has ended, a notification follows, as
        usual.
        """
        self.close()
        deadline = time.monotonic() + self._patience
        while True:
            try:
                self._connect()
                missed = [told for lease in sorted(self._leases.held) if (told := self._take_up(lease))]
                self._missed += missed
                return
            except LmxdError as error:
                if error.code != "daemon_unavailable" or time.monotonic() > deadline:
                    raise
            time.sleep(PAUSE)

    def _take_up(self, lease: str) -> bytes | None:
        """Renew a lease. Returns None, or the notification that it has moved or ended."""
        try:
            renewed = self._exchange("renew", Renewed, self._leases.renewal(lease))
        except LmxdError as error:
            return framing.notification(Notification.LEASE_ENDED, ended_meanwhile(lease, error))
        moved = self._leases.renewed(renewed)
        return None if moved is None else framing.notification(Notification.MOVED, moved.model_dump())

    def lease(self, lease: str) -> BlockingLease:
        """A lease that was granted here, as it is now: it may have moved. LmxdError if it has ended.

        The daemon is asked, for whoever blocks does not hear of a move.
        """
        self._leases.present(lease)
        moved = self._leases.renewed(self._ask("renew", Renewed, self._leases.renewal(lease)))
        if moved is not None and self._notified:
            self._notified(Notification.MOVED, moved.model_dump())
        return self._leases.present(lease)

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """For select: it is readable when a message has come, or when the daemon is gone."""
        return self._socket.fileno()

    @property
    def has_message(self) -> bool:
        """Whether ``receive`` returns at once, because a message has been read already."""
        return bool(self._missed) or self._framer.has_line

    def _call(self, method: str, result: type[ResultT], /, **params: Any) -> ResultT:
        if method == "release":  # a reconnect shall not renew it, even if this call fails
            self._leases.ended(params["lease"])
        return self._ask(method, result, params)

    def _grant(self, method: str, result: type[LeaseT], on_progress: OnProgress | None, /, **params: Any) -> LeaseT:
        lease = self._ask(method, result, repeatable(params), on_progress)
        if isinstance(lease, BlockingLease):
            lease._release = self.release
        if isinstance(lease, BlockingLease | Held) and (method != "grow" or self._leases.has(lease.lease)):
            self._leases.took(lease)
        return lease

    def _ask(
        self, method: str, result: type[ResultT], params: dict[str, Any], on_progress: OnProgress | None = None
    ) -> ResultT:
        """Send a call and return its answer, again if the daemon is restarted. ``on_progress`` gets the reports."""
        lost_at: float | None = None
        while True:
            begun = time.monotonic()
            try:
                return self._exchange(method, result, params, on_progress)
            except ConnectionLost:  # perhaps more than once: a dying daemon may still have taken the new connection
                lost_at = lost(lost_at, begun, self._patience)
            self.reconnect()

    def _exchange(
        self, method: str, result: type[ResultT], params: dict[str, Any], on_progress: OnProgress | None = None
    ) -> ResultT:
        id = next(self._ids)
        said = frame(id, method, params)
        self._socket.settimeout(None if grants(method) else ANSWER_TIMEOUT)
        with suppress(OSError):  # it is closed: why, may have been said before
            self._socket.sendall(said)
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
        if self._missed:
            return self._heard(self._missed.pop(0))
        while (line := self._framer.take()) is None:
            try:
                data = self._socket.recv(65536)
            except TimeoutError as error:
                raise unavailable(self.path, error) from error
            except OSError as error:
                raise ConnectionLost from error
            if not data:
                raise ConnectionLost
            self._framer.feed(data)
        return self._heard(line)

    def _heard(self, line: bytes) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(line)
        self._leases.heed(message)
        return message

    def _notify(self, message: dict[str, Any], id: int, on_progress: OnProgress | None) -> None:
        params = message.get("params", {})
        if message["method"] == Notification.PROGRESS:
            if on_progress and params.get("request") == id:
                on_progress(Progress.model_validate(params))
        elif self._notified:
            self._notified(message["method"], params)
