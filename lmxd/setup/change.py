"""A file that is to be written: it is shown before."""

from __future__ import annotations

import difflib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lmxd.config.file import read_configuration
from lmxd.config.writing import write_own
from lmxd.errors import LmxdError
from lmxd.files import open_regular


@dataclass(frozen=True, slots=True)
class FileChange:
    """The new text of a file. ``before``: the text that it has; None if it is not there."""

    path: Path
    before: str | None
    after: str

    @classmethod
    def of(cls, path: Path, after: str) -> FileChange:
        """The change of a file as it is now. ConfigError if it is none that could be read, such as a pipe."""
        return cls(path, _text(path), after)

    def lines(self) -> list[str]:
        """The whole of a new file, or the lines of an old one that change. Empty if nothing does."""
        if self.before is None:
            return [f"{self.path} (new):", *(f"  {line}" for line in self.after.splitlines())]
        if self.before == self.after:
            return []
        changed = difflib.unified_diff(self.before.splitlines(), self.after.splitlines(), lineterm="", n=2)
        return [f"{self.path}:", *(f"  {line}" for line in list(changed)[2:])]

    def write(self, mode: int) -> None:
        """Write it; a new file gets that mode.

        LmxdError ``config`` if that cannot be done, or somebody has changed it since it was shown.
        """
        if _text(self.path) != self.before:
            problem = f"{self.path} has been changed since it was shown, and is left as it is"
            raise LmxdError("config", problem, "run it again")
        if self.lines():
            write_own(self.path, self.after, mode)


def _text(path: Path) -> str | None:
    """The text of a file; None if there is none."""
    return read_configuration(path, regular=True) if os.path.lexists(path) else None


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """One setup of a configuration at a time: another waits. LmxdError ``config`` if nothing can be written there."""
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        lock = open_regular(path.with_name(f".{path.name}.setup"), os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise LmxdError("config", f"{error.filename}: {error.strerror}", "run it as root, or say --user") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
