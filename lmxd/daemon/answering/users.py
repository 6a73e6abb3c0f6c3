"""The owners of uids, and their groups: a uid is a user's of the system, or one of its subordinate uids (subuid(5))."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from lmxd.errors import LmxdError

T = TypeVar("T")
SUBUID: Final = Path("/etc/subuid")
_OVERFLOW: Final = Path("/proc/sys/kernel/overflowuid")
_FRESH: Final = 60.0
"""Seconds for which an owner that was found is known. One who is given another uid waits for so long."""
_MOST: Final = 4096
"""The most uids that are remembered: as many as there are connections."""
_MOST_PENDING: Final = 256
"""The most questions that wait for the system's answer; whoever is known does not wait."""
_NUMBER: Final = re.compile("[0-9]{1,10}")
_REMEDY: Final = "run it as a user of the system, or give its uid to one in /etc/subuid"


@dataclass(frozen=True, slots=True)
class SubordinateRange:
    """One line of /etc/subuid: ``count`` uids from ``first`` on belong to ``owner``, a name or a number."""

    owner: str
    first: int
    count: int


def subordinate_ranges(text: str) -> Iterator[SubordinateRange]:
    """The ranges in the text of /etc/subuid. Lines that are none are left out, as newuidmap does."""
    for line in text.split("\n"):
        owner, *numbers = line.split(":")
        if owner and len(numbers) == 2 and all(_NUMBER.fullmatch(number) for number in numbers):
            yield SubordinateRange(owner, int(numbers[0]), int(numbers[1]))


def subordinate_to(text: str, uid: int) -> set[str]:
    """The names or numbers of those to whom /etc/subuid gives ``uid``."""
    return {r.owner for r in subordinate_ranges(text) if r.first <= uid < r.first + r.count}


class Users:
    """Finds the user whom a uid belongs to. Directories of users may be slow, so that they are asked in a thread."""

    def __init__(self, subuid: Path = SUBUID, clock: Callable[[], float] = time.monotonic) -> None:
        self._subuid = subuid
        self._clock = clock
        self._owners: dict[int, tuple[int, float]] = {}
        """By uid: its owner, and when that was found."""
        self._groups: dict[int, tuple[frozenset[int], float]] = {}
        """By uid: the groups that it is listed in, and when that was found."""
        self._pending = 0
        self._thread = ThreadPoolExecutor(1, "lmxd-users")

    def forget(self) -> None:
        """Look everything up anew."""
        self._owners.clear()
        self._groups.clear()

    async def owner(self, uid: int) -> int:
        """The uid of the user whom ``uid`` belongs to. LmxdError ``not_permitted`` if it is nobody's that is known."""
        if uid in (0, os.getuid()):
            return uid
        return await self._found(uid, self._owners, self._look_up)

    async def groups(self, uid: int) -> frozenset[int]:
        """The groups that the user ``uid`` is listed in; none for root, and for one that is not known."""
        return frozenset() if uid == 0 else await self._found(uid, self._groups, _groups)

    async def _found(self, uid: int, known: dict[int, tuple[T, float]], look_up: Callable[[int], T]) -> T:
        if uid in known and self._clock() - known[uid][1] < _FRESH:
            return known[uid][0]
        if self._pending >= _MOST_PENDING:
            raise LmxdError("too_many", "the system's directory of users is slow to answer", "try again")
        self._pending += 1
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._thread, look_up, uid)
        finally:
            self._pending -= 1
        if len(known) >= _MOST:
            known.clear()
        known[uid] = found, self._clock()
        return found

    def _look_up(self, uid: int) -> int:
        if uid == _overflow():
            raise LmxdError("not_permitted", f"uid {uid} stands for all that have none here", _REMEDY)
        if _is_known(uid):
            return uid
        owners = {_number(name) for name in subordinate_to(_read(self._subuid), uid)}
        if len(owners) != 1 or owners & {0, None}:
            whose = "belongs to no user" if owners != {0} else "is a subordinate uid of root"
            raise LmxdError("not_permitted", f"uid {uid} {whose} that lmxd serves", _REMEDY)
        (owner,) = owners
        assert owner is not None
        return owner


def _groups(uid: int) -> frozenset[int]:
    try:
        user = pwd.getpwuid(uid)
        return frozenset(os.getgrouplist(user.pw_name, user.pw_gid))
    except (KeyError, OverflowError, OSError):
        return frozenset()


def _is_known(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except (KeyError, OverflowError):
        return False
    return True


def _number(owner: str) -> int | None:
    """The uid of a user of the system, by name or number; None if there is no such user."""
    try:
        return pwd.getpwnam(owner).pw_uid
    except (KeyError, ValueError):
        return int(owner) if _NUMBER.fullmatch(owner) and _is_known(int(owner)) else None


def _overflow() -> int:
    try:
        return int(_OVERFLOW.read_text())
    except (OSError, ValueError):
        return 65534  # as overflowuid is by default: linux/highuid.h


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
