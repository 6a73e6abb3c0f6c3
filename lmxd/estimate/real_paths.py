"""Real paths of many files of a few directories, whose own links are followed once."""

from __future__ import annotations

import errno
import os
from typing import Final

_MOST_LINKS: Final = 40
"""As Linux follows (path_resolution(7))."""


class RealPaths:
    """Finds real paths, as ``os.path.realpath`` does, in a few microseconds each. It is for one look at a time."""

    def __init__(self) -> None:
        self._directories: dict[str, str] = {}

    def of(self, path: str) -> str:
        """The real path of what is there. OSError if nothing is, or if links lead in a circle."""
        for _ in range(_MOST_LINKS):
            directory, name = os.path.split(path)
            if name in ("", os.curdir, os.pardir):
                return os.path.realpath(path, strict=True)
            if directory not in self._directories:
                self._directories[directory] = os.path.realpath(directory, strict=True)
            real = os.path.join(self._directories[directory], name)
            try:
                path = os.path.join(self._directories[directory], os.readlink(real))
            except OSError as error:
                if error.errno == errno.EINVAL:  # it is there, and no link
                    return real
                raise
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
