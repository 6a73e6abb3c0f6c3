"""What both clients share: where the daemon is, frames out, errors in."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lmxd.errors import EXIT_STATUS, LmxdError
from lmxd.rpc import framing
from lmxd.rpc import notifications as n

SYSTEM_SOCKET = Path("/run/lmxd/lmxd.sock")
OnProgress = Callable[[n.Progress], None]
OnNotification = Callable[[str, dict[str, Any]], None]


def default_socket() -> Path:
    """LMXD_SOCKET, else the socket of a daemon of one's own if there is one, else the system's."""
    if named := os.environ.get("LMXD_SOCKET"):
        return Path(named)
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and (own := Path(runtime) / "lmxd.sock").exists():
        return own
    return SYSTEM_SOCKET


def unavailable(path: Path, error: OSError) -> LmxdError:
    remedy = "start it with systemctl start lmxd, or name its socket with LMXD_SOCKET"
    if isinstance(error, PermissionError):
        return LmxdError("not_permitted", f"{path}: permission denied", "join the group lmxd: usermod -aG lmxd $USER")
    return LmxdError("daemon_unavailable", f"lmxd does not answer on {path}: {error.strerror or error}", remedy)


def lost() -> LmxdError:
    return LmxdError("daemon_unavailable", "lmxd closed the connection", "see its log")


def failure(error: dict[str, Any]) -> LmxdError:
    data = dict(error.get("data") or {})
    code = data.pop("code", "internal")
    remedy = str(data.pop("remedy", ""))
    return LmxdError(code if code in EXIT_STATUS else "internal", str(error.get("message")), remedy, data)


def frame(id: int, method: str, params: dict[str, Any]) -> bytes:
    given = {key: value for key, value in params.items() if value is not None}
    return framing.encode({"id": id, "method": f"lmxd.{method}", "params": given})
