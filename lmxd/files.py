"""Small files: read within a bound; those of our own replaced as a whole, and never written through a link."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shlex
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

_LONGEST_NAME = 200
"""Bytes of a file's name: file systems take 255, and a suffix follows."""

_TRIES = 16
"""Passes over a tree that has directories which its owner has shut: each opens one level of them."""


def file_name(name: str) -> str:
    """The name of a file for a name of ours, which may have slashes or be long: no two have the same."""
    plain = name.replace("/", "%2F")
    if len(os.fsencode(plain)) <= _LONGEST_NAME:
        return plain
    return f"%{hashlib.sha256(name.encode()).hexdigest()}"  # no other begins so: names begin with a letter or digit


def open_regular(path: Path, flags: int, mode: int = 0o600) -> int:
    """A descriptor of a regular file that has this one name. OSError for links of both kinds, pipes and devices."""
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, mode)
    found = os.fstat(fd)
    if stat.S_ISREG(found.st_mode) and found.st_nlink <= 1:
        return fd
    os.close(fd)
    raise OSError(errno.EPERM, "not a regular file with one name", str(path))


def obstacle(path: Path) -> Path | None:
    """The directory above a file, or the file itself, that keeps this process from reading it; None if nothing does."""
    real = Path(os.path.abspath(path))
    for directory in reversed(real.parents):
        if not os.access(directory, os.X_OK):
            return directory
    if (target := Path(os.path.realpath(real))) != real:
        return obstacle(target)
    return target if target.exists() and not os.access(target, os.R_OK) else None


def let_in(user: str, path: Path, barred: Path) -> str:
    """A remedy for a file or directory that a user cannot read, because something above it, or itself, is shut."""
    itself = barred in (path, Path(os.path.realpath(path)))
    right = "x" if not itself else "rx" if path.is_dir() else "r"
    more = "" if itself else ", and so on below if need be"
    return f"setfacl -m u:{user}:{right} {shlex.quote(str(barred))}{more}; or move the file to a directory that is open"


def read_text(path: Path, most: int, *, regular: bool = False) -> str:
    """The UTF-8 text of a file of up to ``most`` bytes. OSError, UnicodeDecodeError.

    ``regular``: whatever else has that name, such as a pipe, which could be waited for, is refused.
    """
    with open(
        os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | (os.O_NONBLOCK if regular else 0)), "rb"
    ) as file:
        if regular and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it has more than {most >> 10} KiB", str(path))
    return data.decode()


def remove_tree(directory: Path) -> bool:
    """Remove a directory with all in it, also what its owner has shut; whether it is gone. No link is followed."""
    for _ in range(_TRIES):
        shutil.rmtree(directory, onerror=_opened)
        if not os.path.lexists(directory):
            return True
    log.warning("%s cannot be removed", directory)
    return False


def _opened(_: object, path: str, __: object) -> None:
    """Open the directory that something could not be removed in, or looked into. Root needs no such thing."""
    if os.geteuid() != 0:
        for shut in (path, os.path.dirname(path)):
            with suppress(OSError):
                if stat.S_ISDIR(os.lstat(shut).st_mode):
                    os.chmod(shut, 0o700)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def replace_text(path: Path, text: str) -> bool:
    """Write ``text`` to ``path``, making its directory. False, and a warning in the log, if that cannot be done."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        fresh.unlink(missing_ok=True)
        with open(open_regular(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "w") as file:
            file.write(text)
        fresh.replace(path)
    except OSError as error:
        log.warning("%s cannot be written: %s", path, error)
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        return False
    return True


def decoded(text: str) -> Any:
    """The value that a file of JSON has. ValueError if it is none, or is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
