"""Files that people have, such as their configuration, are written: as a whole, and to nothing else."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from lmxd.errors import LmxdError


def write_own(path: Path, text: str, mode: int = 0o600) -> None:
    """Make a file of that mode, or replace one, whose mode and owner stay, and a link to it. LmxdError ``config``.

    Its directory may be another user's, who may put anything in the place of any name there meanwhile: a right is
    given to the descriptor of the new file, and no name is followed once it is known.
    """
    real = Path(os.path.realpath(path))
    try:
        found = _replaceable(real)
        real.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _replace(real, text, mode, found)
    except OSError as error:
        remedy = "run it as root, or say --user" if isinstance(error, PermissionError) else "see to that, and try again"
        raise LmxdError("config", f"{path} cannot be written: {error.strerror}", remedy) from error


def may_write(path: Path) -> bool:
    """Whether ``write_own`` is likely to succeed."""
    real = Path(os.path.realpath(path))
    try:
        found = _replaceable(real)
    except OSError:
        return False
    owned = found is None or os.geteuid() in (0, found.st_uid)
    nearest = next((each for each in real.parents if each.exists()), real.parent)
    return owned and os.access(nearest, os.W_OK | os.X_OK)


def _replaceable(real: Path) -> os.stat_result | None:
    """The regular file that is there; None if there is none. OSError for a pipe, a device, a directory."""
    try:
        found = os.lstat(real)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(real))
    return found


def _replace(real: Path, text: str, mode: int, found: os.stat_result | None) -> None:
    number, beside = tempfile.mkstemp(prefix=f".{real.name[:100]}.", dir=real.parent)
    try:
        with open(number, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            made = os.fstat(number)
            if found is not None and (found.st_uid, found.st_gid) != (made.st_uid, made.st_gid):
                os.fchown(number, found.st_uid, found.st_gid)
            os.fchmod(number, mode if found is None else stat.S_IMODE(found.st_mode))
            file.flush()
            os.fsync(number)
        os.replace(beside, real)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise
