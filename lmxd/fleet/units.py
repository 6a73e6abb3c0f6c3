"""The services of a fleet on this box, where systemd runs them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from lmxd.errors import LmxdError
from lmxd.fleet import private_files
from lmxd.fleet.members import MemberRole
from lmxd.own_units import own_units
from lmxd.systemd import systemctl

_STARTED: Final = (MemberRole.BROKER, MemberRole.NODE)
"""Roles that need nothing further to be said, in the order of their start. A gateway has to know where to listen."""


def start(roles: Iterable[MemberRole], *, user: bool) -> list[str]:
    """Start the services of roles, for good. Returns the names of those that were started.

    None are where no systemd runs, or lmxd has no units. LmxdError ``daemon_unavailable`` if one fails.
    """
    manager = ["--user"] if user else []
    units = [f"lmxd-fleet-{role}.service" for role in _STARTED if role in set(roles)]
    if not units:
        return []
    if systemctl([*manager, "cat", *units]) is not None and not (user and _written()):
        return []
    words = [*manager, "enable", "--now", *units]
    if (problem := systemctl(words)) is not None:
        remedy = f"journalctl {' '.join([*manager, '-e', *(f'-u {unit}' for unit in units)])}"
        raise LmxdError("daemon_unavailable", f"systemctl {' '.join(words)}: {problem}", remedy)
    return units


def _written() -> bool:
    """Write the units of a user's own fleet, as ``lmxd setup --user`` has written those of lmxd. False if it has not.

    LmxdError ``config`` if one cannot be written.
    """
    if systemctl(["--user", "cat", "lmxd.service"]) is not None:
        return False
    for path, text in own_units(f"lmxd-fleet-{role}.service" for role in (*_STARTED, MemberRole.GATEWAY)).items():
        private_files.directory(path.parent, mode=0o755)
        private_files.write(path, text.encode(), mode=0o644)
    return systemctl(["--user", "daemon-reload"]) is None
