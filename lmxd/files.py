"""Small files of our own: replaced as a whole, so that no reader ever sees half of one, and never through a link."""

from __future__ import annotations

import errno
import logging
import os
import stat
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)


def open_regular(path: Path, flags: int, mode: int = 0o600) -> int:
    """A descriptor of a regular file that has this one name. OSError for links of both kinds, pipes and devices."""
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, mode)
    found = os.fstat(fd)
    if stat.S_ISREG(found.st_mode) and found.st_nlink <= 1:
        return fd
    os.close(fd)
    raise OSError(errno.EPERM, "not a regular file with one name", str(path))


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
