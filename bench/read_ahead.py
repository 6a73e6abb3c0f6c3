"""How a file comes into the page cache: by advice to the kernel in pieces of several sizes, by reading, as lmxd does.

bench/read_ahead.py [--mib 1024] [--directory .]    a file of so many MiB is made there, dropped, brought in, removed
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from cached import drop, pages, pages_in_cache

from lmxd.devices.page_cache import bring_in

MIB = 2**20
_PATIENCE = 3.0
"""Seconds that advice has, when it has been given, to bring in what it will."""


def advised(piece: int) -> Callable[[Path], float]:
    """Ask the kernel for all of a file in such pieces; the longest that one call took."""

    def ask(path: Path) -> float:
        file, longest = os.open(path, os.O_RDONLY), 0.0
        for start in range(0, path.stat().st_size, piece):
            begun = time.perf_counter()
            os.posix_fadvise(file, start, piece, os.POSIX_FADV_WILLNEED)
            longest = max(longest, time.perf_counter() - begun)
        os.close(file)
        return longest

    return ask


def read(path: Path) -> float:
    begun = time.perf_counter()
    bring_in(path, 0, path.stat().st_size)
    return time.perf_counter() - begun


def measured(name: str, path: Path, bring: Callable[[Path], float]) -> None:
    """Seconds until no more of it comes, and how much there is then; cold, and once more when it is warm."""
    drop(path)
    begun = time.perf_counter()
    longest = bring(path)
    called = came = time.perf_counter() - begun
    there = pages_in_cache(path)
    while there < pages(path) and time.perf_counter() - begun < called + _PATIENCE:
        time.sleep(0.02)
        if (now := pages_in_cache(path)) > there:
            there, came = now, time.perf_counter() - begun
    begun = time.perf_counter()
    bring(path)
    again = time.perf_counter() - begun
    print(
        f"{name:<22} {100 * there / pages(path):5.1f} % after {came:5.2f} s; it blocked for {called:5.2f} s,"
        f" at once at most {longest * 1e3:6.1f} ms; when warm {again * 1e3:6.1f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--directory", type=Path, default=Path())
    given = parser.parse_args()
    with tempfile.NamedTemporaryFile(dir=given.directory, suffix=".bin") as file:
        for _ in range(given.mib):
            file.write(os.urandom(MIB))
        file.flush()
        path = Path(file.name)
        measured("advice, the whole file", path, advised(given.mib * MIB))
        for piece in (64, 16, 2):
            measured(f"advice, {piece} MiB a piece", path, advised(piece * MIB))
        measured("read, as lmxd does", path, read)


if __name__ == "__main__":
    main()
