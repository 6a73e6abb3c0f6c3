"""Finds the program of an engine on this machine."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from lmxd.errors import LmxdError
from lmxd.estimate.backends import Backend


def program(name: str, configured: Path | None, key: str, how: str) -> Path:
    """The program to use: as configured by ``key``, else the one on PATH. ``how``: the way to install it.

    LmxdError ``engine_missing`` says where it was looked for.
    """
    remedy = f"install it ({how}), and set {key} to its bin/{name}"
    if configured is not None:
        named = shutil.which(str(configured.expanduser()))
        if named is None:
            raise LmxdError("engine_missing", f"{key} {configured} is not an executable file", remedy)
        return Path(named).absolute()
    if (found := shutil.which(name)) is not None:
        return Path(found).absolute()
    raise LmxdError("engine_missing", f"there is no {name} on PATH", remedy)


@dataclass(frozen=True, slots=True)
class FoundProgram:
    """A program on disk. ``version``: empty if nothing beside it says one. ``key``: the key that chose it.

    ``backends``: those that it was built for, none for the processor alone.
    """

    path: Path
    version: str
    key: str
    backends: frozenset[Backend] = frozenset({Backend.CUDA, Backend.ROCM})

    @property
    def name(self) -> str:
        """The program and its version, for people."""
        return f"{self.path} ({self.version})" if self.version else str(self.path)

    def stamp(self) -> tuple[str, int, str] | None:
        """Tells it from another that comes to its place; None if it is gone."""
        try:
            return str(self.path), self.path.stat().st_mtime_ns, self.version
        except OSError:
            return None
