"""A file that is to be written: it is shown before."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from lmxd.errors import LmxdError
from lmxd.files import replace_text


@dataclass(frozen=True, slots=True)
class FileChange:
    """The new text of a file. ``before``: the text that it has; None if it is not there."""

    path: Path
    before: str | None
    after: str

    def lines(self) -> list[str]:
        """The whole of a new file, or the lines of an old one that change. Empty if nothing does."""
        if self.before is None:
            return [f"{self.path} (new):", *(f"  {line}" for line in self.after.splitlines())]
        if self.before == self.after:
            return []
        changed = difflib.unified_diff(self.before.splitlines(), self.after.splitlines(), lineterm="", n=2)
        return [f"{self.path}:", *(f"  {line}" for line in list(changed)[2:])]

    def write(self, mode: int) -> None:
        """Write it; a new file gets that mode. LmxdError ``config`` if that cannot be done."""
        if not self.lines():
            return
        if not replace_text(self.path, self.after, keep_mode=True):
            raise LmxdError("config", f"{self.path} cannot be written", "run it as root, or say --user")
        if self.before is None:
            self.path.chmod(mode)
