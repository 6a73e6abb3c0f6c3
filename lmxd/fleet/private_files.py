"""Files of a fleet that are the business of one user: of the one to whom their directory belongs."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from lmxd.errors import LmxdError


def write(path: Path, content: bytes, *, mode: int = 0o600, fresh: bool = False) -> None:
    """Write a file as a whole, so that it outlives a loss of power. ``fresh``: FileExistsError if there is one.

    LmxdError ``config`` if that cannot be done. Written by root, it belongs to the owner of the directory.
    """
    made = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        owner = path.parent.stat()
        with open(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
            if os.geteuid() == 0:
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if fresh:
            os.link(made, path)
        else:
            made.replace(path)
    except FileExistsError:
        raise
    except OSError as error:
        remedy = "run it as root, or with --user for a fleet of your own"
        raise LmxdError("config", f"{path} cannot be written: {error.strerror}", remedy) from error
    finally:
        with suppress(OSError):
            made.unlink(missing_ok=True)


def directory(path: Path, *, mode: int = 0o700, owner: tuple[int, int] | None = None) -> None:
    """Make a directory, for an owner (uid, gid) if that is said and root asks. LmxdError ``config``."""
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
        path.chmod(mode)
        if owner is not None and os.geteuid() == 0:
            os.chown(path, *owner)
    except OSError as error:
        remedy = "run it as root, or with --user for a fleet of your own"
        raise LmxdError("config", f"{path} cannot be made: {error.strerror}", remedy) from error
