"""Bytes of a model that the hub's library is fetching, which has no way in all its versions to say so itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_PERIOD: Final = 0.5
"""Seconds between two looks."""
_PARTIAL: Final = ".cache/huggingface/download"
"""The place below the directory of a repository where the library has files that are not whole."""


@contextmanager
def reported(home: Path, files: Sequence[tuple[str, str | None]], told: Callable[[int], None]) -> Iterator[None]:
    """Say how many bytes of some files have come, twice a second and at the end. ``files``: names and SHA-256."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(_PERIOD):
            told(arrived(home, files))

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield
    finally:
        over.set()
        looking.join()
    told(arrived(home, files))


def arrived(home: Path, files: Sequence[tuple[str, str | None]]) -> int:
    """The bytes of some files that are there, whole or not."""
    return sum(_size(home / name) or _partial(home, name, sha256) for name, sha256 in files)


def _partial(home: Path, name: str, sha256: str | None) -> int:
    directory = (home / _PARTIAL / name).parent
    return max((_size(path) for path in directory.glob(f"*.{sha256}*.incomplete")), default=0) if sha256 else 0


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0
