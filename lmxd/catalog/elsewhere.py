"""Things in a model directory that are elsewhere: engines open by name, at whatever depth, and follow links."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from lmxd.errors import LmxdError
from lmxd.estimate.real_paths import RealPaths

MOST: Final = 10_000
"""Files and directories of a model. The largest have 200, and some hundred more of git's."""


def elsewhere(directory: Path, may_be: Callable[[Path], bool]) -> LmxdError | None:
    """The error for the first link in a directory that leads to where no model ``may_be``, or for what is no file.

    A link that leads nowhere is for who opens it, and so is a directory that is shut.
    """
    real_paths, count = RealPaths(), 0
    seen, left = {str(directory)}, [str(directory)]
    while left:
        found = _listed(left.pop())
        count += len(found)
        if count > MOST:
            problem = f"{directory} has more than {MOST} files and directories"
            return LmxdError("model_file_forbidden", problem, "name the directory of one model")
        for entry in found:
            real = entry.path
            if entry.is_symlink():
                try:
                    real = real_paths.of(entry.path)
                except OSError:
                    continue
                if not may_be(Path(real)):
                    return _error(entry.path, f"is {real}, which is in no directory for models", Path(real).parent)
            with suppress(OSError):
                if entry.is_dir():
                    left += {real} - seen
                    seen.add(real)
                elif not entry.is_file():
                    return _error(entry.path, "is neither a file nor a directory", None)
    return None


def _listed(directory: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except OSError:
        return []


def _error(path: str, what: str, there: Path | None) -> LmxdError:
    remedy = "take it out" if there is None else f"put it there, or add {there} to model_dirs"
    return LmxdError("model_file_forbidden", f"{path} {what}", remedy)
