"""The user that engines run as: another than the daemon's where the daemon is root's and the system's."""

from __future__ import annotations

import grp
import os
import pwd
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from lmxd.errors import LmxdError

_NUMBER: Final = re.compile("[0-9]{1,10}")
_USUAL: Final = ("lmxd", "nobody")
"""Users to take when none is configured, the first that there is."""
_DEVICES: Final = ("video", "render")
"""Groups that GPUs belong to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SystemUser:
    """A user that processes are started as, with its groups and its home directory."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str

    @property
    def has_home(self) -> bool:
        """Whether its home is a directory of its own: nobody's is not."""
        with suppress(OSError):
            found = os.stat(self.home)
            return stat.S_ISDIR(found.st_mode) and found.st_uid == self.uid
        return False

    def spawning(self) -> dict[str, Any]:
        """Arguments of subprocess.Popen."""
        return {"user": self.uid, "group": self.gid, "extra_groups": self.groups}


def engine_account(user: str | None, *, shared: bool) -> SystemUser | None:
    """The user that engines run as; None for the daemon's own. ``user``: the key engine.user. ``shared``: the system's.

    Raises LmxdError ``config`` if there is no such user, or only root could start a process as it.
    """
    if os.geteuid() != 0:
        if user is not None and _entry(user).pw_uid != os.geteuid():
            raise LmxdError("config", f"engine.user {user}: only root can run engines as another user", "leave it out")
        return None
    if user is None and not shared:
        return None
    found = _entry(user) if user is not None else _usual()
    if found.pw_uid == 0:
        return None
    return SystemUser(
        name=found.pw_name, uid=found.pw_uid, gid=found.pw_gid, groups=tuple(_groups()), home=found.pw_dir
    )


def account_warnings(account: SystemUser | None) -> Iterator[str]:
    """A sentence for each danger of running as root."""
    if os.geteuid() != 0:
        return
    if account is None:
        yield (
            "lmxd runs as root, and so do its engines: a model file or a request that takes over an engine has the"
            " whole machine; run lmxd as a user of its own, or set engine.user"
        )
    else:
        yield (
            f"lmxd runs as root, its engines as {account.name}: a fault of lmxd is one of root's; run it as a user of"
            " its own, as its systemd unit does"
        )


def account_groups(account: pwd.struct_passwd) -> list[int]:
    """All groups of a user."""
    return os.getgrouplist(account.pw_name, account.pw_gid)


def _entry(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(int(user)) if _NUMBER.fullmatch(user) else pwd.getpwnam(user)
    except (KeyError, OverflowError) as error:
        raise LmxdError("config", f"engine.user {user}: there is no such user", "name one, or leave it out") from error


def _usual() -> pwd.struct_passwd:
    for name in _USUAL:
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise LmxdError("config", "engine.user: neither lmxd nor nobody is a user here", "name one")


def _groups() -> Iterator[int]:
    for name in _DEVICES:
        with suppress(KeyError):
            yield grp.getgrnam(name).gr_gid
