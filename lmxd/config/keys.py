"""API keys of the gateway. The file holds hashes alone: it may be read by anybody, and a key is shown once."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from lmxd.errors import LmxdError
from lmxd.text import escaped, shortened

MAKES_ONE: Final = "lmxd key NAME, or lmxd fleet key NAME of a fleet's gateway"
"""The commands that make a key, in a remedy: the gateways of a box and of a fleet have the same errors."""
_PREFIX: Final = "lmxd-"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LINE: Final = re.compile(rf"({_NAME.pattern})[ \t]+sha256:([0-9a-f]{{64}})([ \t]+admin)?")
_LARGEST: Final = 4 * 2**20
"""Bytes of a file: some ten thousand keys."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The owner of a key. ``admin`` may stop, pin and have devices yielded, and sees what belongs to whom."""

    name: str
    admin: bool


def _hash(key: str) -> str:
    """Keys are random and long: no salt is needed, and none of the slow hashes. Any bytes of a header have a hash."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()


class Keys:
    """The known keys, as a table of hashes: how long a look-up takes says nothing of the key.

    ``problems`` names each line that is no key. Such a line lets nobody in, and does not keep the others from counting.
    """

    def __init__(self, path: Path) -> None:
        """LmxdError ``config`` if the file cannot be used."""
        self._callers: dict[str, Caller] = {}
        self.problems: list[str] = []
        for number, line in enumerate(_lines(path), start=1):
            words = line.partition("#")[0].strip()
            if not words:
                continue
            if (match := _LINE.fullmatch(words)) is None:
                self.problems.append(f"{path}, line {number} is no key: {shortened(escaped(words), 80)}")
            elif (known := self._callers.get(match[2])) is not None:
                self.problems.append(f"{path}, line {number} has the key of {known.name} again")
                self._callers[match[2]] = replace(known, admin=known.admin and match[3] is not None)
            else:
                self._callers[match[2]] = Caller(match[1], admin=match[3] is not None)

    @property
    def names(self) -> frozenset[str]:
        """The names of all who have a key."""
        return frozenset(caller.name for caller in self._callers.values())

    def __len__(self) -> int:
        return len(self._callers)

    def caller(self, key: str) -> Caller | None:
        return self._callers.get(_hash(key))


def version_of(path: Path) -> tuple[int, ...]:
    """A mark that changes with the file, or with the rights that make it usable; empty if there is none."""
    path = path.expanduser()
    try:
        found, place = os.stat(path), os.stat(path.parent)
    except OSError:
        return ()
    of_file = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode, found.st_uid, found.st_gid)
    return (*of_file, place.st_mode, place.st_uid, place.st_gid)


def _lines(path: Path) -> list[str]:
    """The lines as an editor counts them. Bytes that are not UTF-8 spoil their own line alone."""
    real = Path(os.path.realpath(path.expanduser()))
    try:
        _require_own(real.parent, real.parent.stat())
        with open(os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW), "rb") as file:
            _require_own(real, found := os.fstat(file.fileno()))
            data = file.read(_LARGEST + 1) if stat.S_ISREG(found.st_mode) else None
    except OSError as error:
        remedy = f"{MAKES_ONE} makes it"
        raise LmxdError("config", f"gateway.keys_file {path}: {error.strerror}", remedy) from error
    if data is None or len(data) > _LARGEST:
        what = "is not a regular file" if data is None else f"has more than {_LARGEST >> 20} MiB"
        raise LmxdError("config", f"gateway.keys_file {path} {what}", "name another file")
    return data.decode(errors="surrogateescape").split("\n")


def _require_own(path: Path, found: os.stat_result) -> None:
    """LmxdError ``config`` if a file or directory is another user's, or others can write or replace what is there."""
    if found.st_uid not in (0, os.geteuid()):
        remedy = "it must be root's, or of who reads it: chown it"
        raise LmxdError("config", f"gateway.keys_file: {path} belongs to uid {found.st_uid}", remedy)
    others = stat.S_IWOTH | (stat.S_IWGRP if found.st_gid not in (0, os.getegid()) else 0)
    sticky = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
    if found.st_mode & others and not sticky:
        raise LmxdError("config", f"gateway.keys_file: {path} can be written by others", f"chmod go-w {path}")


def add(path: Path, name: str, *, admin: bool) -> str:
    """A new key, in the place of an older one of that name. LmxdError if the file cannot be used."""
    if _NAME.fullmatch(name) is None:
        raise LmxdError("config", f"{name!r} is no name for a key", "use letters, digits and . _ -")
    if name == "default":
        raise LmxdError("config", f"{name!r} is no name for a key: in keys: it stands for all others", "name another")
    path = Path(os.path.realpath(path.expanduser()))
    key = _PREFIX + secrets.token_urlsafe(32)
    with _locked(path):
        known = _lines(path) if path.exists() else []
        if known and (problems := Keys(path).problems):  # a file that is none of ours is left alone
            raise LmxdError("config", problems[0], "mend or remove that line, then add the key")
        kept = [line for line in known if line.split() and line.split()[0] != name]
        line = f"{name} sha256:{_hash(key)}" + (" admin" if admin else "")
        _write(path, "\n".join((*kept, line, "")))
    return key


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One change of the file at a time. Nobody else can hold the lock: its file is for its owner alone."""
    beside = path.with_name(f".{path.name}.lock")
    try:
        _require_own(path.parent, path.parent.stat())
        lock = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    except OSError as error:
        raise LmxdError("config", f"{path}: {error.strerror}", "run as root, or choose another keys_file") from error
    try:
        _require_own(beside, os.fstat(lock))
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _write(path: Path, text: str) -> None:
    """Replace the file as a whole, by one that nobody else could have made or opened."""
    beside = None
    try:
        number, beside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with open(number, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
            os.fchmod(number, 0o644)
            file.flush()
            os.fsync(number)
        os.replace(beside, path)
    except OSError as error:
        if beside is not None:
            Path(beside).unlink(missing_ok=True)
        raise LmxdError("config", f"{path}: {error.strerror}", "run as root, or choose another keys_file") from error
