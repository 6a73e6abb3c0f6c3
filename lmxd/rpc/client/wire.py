"""The parts that both clients share: the path of the socket, frames, and errors."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from lmxd.errors import LmxdError, known
from lmxd.rpc import framing
from lmxd.rpc.holds import Held
from lmxd.rpc.messages import Granted, Result
from lmxd.rpc.notifications import Progress
from lmxd.xdg import own_directory

SYSTEM_SOCKET = Path("/run/lmxd/lmxd.sock")
PATIENCE: Final = 20.0
"""Seconds for which a client tries to reconnect: less than the 30 s for which a new daemon keeps its leases."""
_WAS_BACK: Final = 1.0
"""Seconds for which a call waits at a daemon that is there again. One that ends at each call does so sooner."""
PAUSE: Final = 0.1
CONNECT_TIMEOUT: Final = 30.0
"""Seconds to be let in by a daemon to whom many connect."""
OnProgress = Callable[[Progress], None]
OnNotification = Callable[[str, dict[str, Any]], None]
ResultT = TypeVar("ResultT", bound=Result)
LeaseT = TypeVar("LeaseT", bound=Granted | Held)


def default_socket() -> Path:
    """The path in LMXD_SOCKET, else the socket of the user's own daemon if there is one, else the system's."""
    if named := os.environ.get("LMXD_SOCKET"):
        return Path(named)
    own = own_socket()
    return own if own.exists() else SYSTEM_SOCKET


def own_socket() -> Path:
    """The socket of the user's own daemon, in a directory that nobody else can write.

    A login makes one, su(1) and containers do not: then it is among what the user keeps.
    """
    if (run := os.environ.get("XDG_RUNTIME_DIR", "")).startswith("/"):
        return Path(run) / "lmxd.sock"
    return own_directory("XDG_STATE_HOME", ".local/state") / "lmxd/run/lmxd.sock"


def unavailable(path: Path, error: OSError) -> LmxdError:
    remedy = "start it: systemctl start lmxd, or lmxd --user; or name its socket with LMXD_SOCKET"
    if isinstance(error, PermissionError):
        return LmxdError("not_permitted", f"{path}: permission denied", "join the group lmxd: usermod -aG lmxd $USER")
    return LmxdError("daemon_unavailable", f"lmxd does not answer on {path}: {error.strerror or error}", remedy)


def repeatable(params: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a request with an idempotency key: if it is sent again, it is not granted twice.

    A growth has none, and needs none: its lease grows once.
    """
    if params.get("idempotency_key", "") is not None:
        return params
    return params | {"idempotency_key": secrets.token_hex(8)}


class ConnectionLost(LmxdError):
    """The error ``daemon_unavailable``: the daemon closed the connection. It may come back."""

    def __init__(self) -> None:
        super().__init__("daemon_unavailable", "lmxd closed the connection", "see its log")


def lost(since: float | None, begun: float, patience: float) -> float:
    """The time since which the daemon is gone. A call that was sent at ``begun`` has just been lost.

    Raises ConnectionLost if that is ``patience`` seconds ago. A call that had waited for a second was not lost to the
    same end of the daemon as the one before: the time starts again.
    """
    now = time.monotonic()
    if since is None or now - begun > min(patience, _WAS_BACK):
        since = now
    if now - since >= patience:
        raise ConnectionLost
    return since


def ended_meanwhile(lease: str, error: LmxdError) -> dict[str, Any]:
    """The notification that a client missed while it was not connected. Raises ``error`` if it has another cause."""
    if error.code not in ("lease_ended", "unknown_lease"):
        raise error
    return {"lease": lease, "instance": "", "reason": str(error.data.get("reason", error.code)), "detail": ""}


def failure(error: dict[str, Any]) -> LmxdError:
    data = dict(error.get("data") or {})
    code = data.pop("code", "internal")
    remedy = str(data.pop("remedy", ""))
    return LmxdError(known(code), str(error.get("message")), remedy, data)


def frame(id: int | None, method: str, params: dict[str, Any]) -> bytes:
    """A call as bytes; without an id, one that gets no answer.

    LmxdError ``invalid_params`` for a value that JSON cannot say, or lmxd would not read.
    """
    given = {key: value for key, value in params.items() if value is not None}
    try:
        said = framing.call(id, f"lmxd.{method}", given)
    except (TypeError, ValueError, RecursionError) as error:
        raise LmxdError("invalid_params", f"{method}: {error}", "give finite numbers and plain values") from error
    if len(said) > framing.MAX_FRAME:
        message = f"{method}: the call has {len(said)} bytes, more than {framing.MAX_FRAME}"
        raise LmxdError("invalid_params", message, "give shorter names")
    return said
