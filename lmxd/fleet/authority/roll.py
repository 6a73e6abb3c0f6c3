"""The roll: who belongs to a fleet. A file for each member, so that two programs may change it at once."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from lmxd.errors import LmxdError
from lmxd.fleet import private_files
from lmxd.fleet.members import Member, MemberRole

_FILE: Final = re.compile(r"([a-z]+)\.([a-z0-9-]+)\.json")
_REMOVED: Final = re.compile(r"([0-9a-f]{64})\.removed")
"""The entry of a former member, by the hash of its key: whoever has its name by then has another."""


class Enrolled(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A member. ``key``: SHA-256 of its public key, in hexadecimal digits; ``expires``: seconds since 1970.

    ``address``, ``cluster``: HOST:PORT of a broker's nats-server, for members and for other servers.
    """

    fleet: str
    role: MemberRole
    name: str
    key: str
    expires: float
    address: str = ""
    cluster: str = ""

    @property
    def member(self) -> Member:
        return Member(fleet=self.fleet, role=self.role, name=self.name)


class Roll:
    """The members' files in a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def enroll(self, entry: Enrolled, *, instead: bool = False) -> None:
        """Take a member in; ``instead``: of the one that has its name. LmxdError ``not_permitted`` if that is taken.

        A key that another takes the place of is that of a former member.
        """
        with self._alone():
            before = self.find(entry.member) if instead else None
            try:
                private_files.write(self._path(entry.member), msgspec.json.encode(entry), fresh=not instead)
            except FileExistsError as error:
                raise _taken(entry.member) from error
            if before is not None and before.key != entry.key:
                private_files.write(self._directory / f"{before.key}.removed", msgspec.json.encode(before))

    def renew(self, entry: Enrolled) -> None:
        """Take in a member's newer certificate. LmxdError ``not_permitted`` for a former one, also by its key.

        Who is removed may ask for another all the while.
        """
        with self._alone():
            if self.require(entry.member).key != entry.key:
                what = f"the key is not that of {entry.role} {entry.name}, who has joined anew"
                raise LmxdError("not_permitted", what, "lmxd fleet token --name, then lmxd fleet join there")
            private_files.write(self._path(entry.member), msgspec.json.encode(entry))

    def require(self, member: Member) -> Enrolled:
        """Its entry. LmxdError ``not_permitted`` if it is none."""
        if (found := self.find(member)) is None:
            what = f"{member.role} {member.name} is no member any more"
            raise LmxdError("not_permitted", what, "lmxd fleet token, then lmxd fleet join TOKEN there")
        return found

    def require_free(self, member: Member) -> None:
        """LmxdError ``not_permitted`` if there is a member of that name."""
        if self._path(member).exists():
            raise _taken(member)

    def forget(self, member: Member) -> None:
        """From now on it is none. LmxdError ``unknown_id`` if it was none."""
        try:
            with self._alone():
                if (entry := self.find(member)) is not None:
                    self._path(member).rename(self._directory / f"{entry.key}.removed")
                else:
                    self._path(member).unlink()  # it says nothing
        except FileNotFoundError as error:
            self.all()  # says so where no members are known
            what = f"there is no {member.role} {member.name}"
            raise LmxdError("unknown_id", what, "lmxd fleet members lists them") from error

    def find(self, member: Member) -> Enrolled | None:
        with suppress(OSError, ValueError):
            return msgspec.json.decode(self._path(member).read_bytes(), type=Enrolled)
        return None

    def all(self) -> list[Enrolled]:
        """All members, by role and name. LmxdError ``config`` if the directory cannot be read."""
        try:
            names = sorted(path.name for path in self._directory.iterdir())
        except OSError as error:
            what = f"{self._directory} cannot be read: {error.strerror}"
            raise LmxdError("config", what, "the members are known on the box of lmxd fleet init alone") from error
        found: list[Enrolled] = []
        for name in names:
            if _FILE.fullmatch(name):
                with suppress(OSError, ValueError):  # it was forgotten just now
                    found.append(msgspec.json.decode((self._directory / name).read_bytes(), type=Enrolled))
        return found

    def removed(self, now: float) -> list[str]:
        """The keys (``Enrolled.key``) of former members whose certificates still count. ``now``: seconds since 1970."""
        found: list[str] = []
        for path in self._directory.glob("*.removed"):
            if (named := _REMOVED.fullmatch(path.name)) is None:
                continue
            with suppress(OSError, ValueError):
                if msgspec.json.decode(path.read_bytes(), type=Enrolled).expires > now:
                    found.append(named[1])
                else:
                    path.unlink()
        return sorted(found)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other program changes the roll meanwhile. FileNotFoundError where there is none."""
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            yield
        finally:
            os.close(directory)

    def _path(self, member: Member) -> Path:
        return self._directory / f"{member.role}.{member.name}.json"


def _taken(member: Member) -> LmxdError:
    remedy = f"say another --node; or, if it is to take its place, lmxd fleet token --name {member.name}"
    return LmxdError("not_permitted", f"there is a {member.role} {member.name} already", remedy)


def encoded(entries: Iterable[Enrolled]) -> bytes:
    """A roll as JSON, for other brokers."""
    return msgspec.json.encode(list(entries))


def decoded(content: bytes) -> list[Enrolled]:
    """The reverse of ``encoded``. ValueError."""
    return msgspec.json.decode(content, type=list[Enrolled])


def version_of(content: bytes) -> str:
    """The version of an ``encoded`` roll: another one for each, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()
