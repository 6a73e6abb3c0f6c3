"""Microseconds that a process's bytes in RAM cost to be asked: all of them, its part of them, and a look at the host.

bench/shared_pages.py [--mib 2048]    a child shares so many MiB with this process, in pages of 4 KiB
"""

from __future__ import annotations

import argparse
import mmap
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from lmxd.devices.host import HostProbe
from lmxd.devices.shared_pages import RamBytes, SharedPages

MIB = 2**20


def microseconds(what: Callable[[], object], times: int) -> float:
    begun = time.perf_counter()
    for _ in range(times):
        what()
    return (time.perf_counter() - begun) / times * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=2048)
    mib: int = parser.parse_args().mib
    memory = mmap.mmap(-1, mib * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    for page in range(0, mib * MIB, mmap.PAGESIZE):
        memory[page] = 1
    me, child = os.getpid(), os.fork()
    if child == 0:
        signal.pause()
    try:
        rows: dict[str, tuple[Callable[[], object], int]] = {
            "all, as /proc/PID/status has it": (lambda: Path(f"/proc/{me}/status").read_text(), 500),
            "its part, by smaps_rollup": (lambda: Path(f"/proc/{me}/smaps_rollup").read_text(), 5),
        }
        probe = HostProbe()
        rows["a look at the host, of one process alone"] = (lambda: probe.measure({me}), 100)
        rows["a look at the host, of two that share"] = (lambda: probe.measure({me, child}), 100)
        for name, (what, times) in rows.items():
            print(f"{name:45} {microseconds(what, times):10.0f} us")
        shared = SharedPages(later=lambda work: work())
        use = shared.use(me, RamBytes(own=mib * MIB, file=0))
        print(f"of {mib} MiB that both have, one is charged {use.visible / MIB:.0f} MiB")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
