"""Pages that processes of one family share: each has its part of them (PSS), so that their sum is what they take.

The kernel walks all pages of a process for that: some 40 ms for a GiB (bench/shared_pages.py). So it is asked rarely,
in a thread that no look at the devices waits for, and what has come since then counts as a process's own.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lmxd.devices.measurement import ProcessUse

_CHANGE: Final = 64 * 2**20
"""Bytes by which a process has changed when it is asked again."""
_OFTEN: Final = 2.0
"""Seconds between two questions about a process at least."""
_SELDOM: Final = 60.0
"""Seconds after which it is asked in any case: others may have begun to share with it, or ended."""
_SHARE: Final = 100.0
"""Times as long as a question took nobody asks again: it takes a hundredth of a core at most."""
Later = Callable[[Callable[[], None]], None]


@dataclass(frozen=True, slots=True)
class RamBytes:
    """Bytes of a process in RAM: ``own`` ones, anonymous or in shared memory, and ``file`` ones, mapped from files."""

    own: int
    file: int

    def __sub__(self, other: RamBytes) -> RamBytes:
        return RamBytes(self.own - other.own, self.file - other.file)


@dataclass(slots=True)
class Shared:
    """The bytes that a process had, of which ``excess`` were parts of others, and when it is to be asked again."""

    resident: RamBytes
    excess: RamBytes
    asked_at: float
    next_at: float


class SharedPages:
    """The parts of processes. ``clock`` in seconds; ``later`` does what takes a while, and nobody waits for it."""

    def __init__(
        self, proc: Path = Path("/proc"), clock: Callable[[], float] = time.monotonic, later: Later | None = None
    ) -> None:
        self._proc = proc
        self._clock = clock
        self._later = later or _Worker().put
        self._known: dict[int, Shared] = {}
        self._asking: set[int] = set()

    def keep(self, pids: Set[int]) -> None:
        """Forget all but these processes. What the others shared with these is theirs now: they are asked again."""
        known = self._known.copy()  # one that is asked just now may come to be known meanwhile
        left = {pid: shared for pid, shared in known.items() if pid in pids}
        if len(left) < len(known):
            for shared in left.values():
                shared.asked_at = -_SELDOM
        self._known = left

    def use(self, pid: int, now: RamBytes) -> ProcessUse:
        """The bytes of a process without those parts of others'; all of them, as long as these are not known."""
        known = self._known.get(pid)
        if pid not in self._asking and self._is_due(known, now):
            self._asking.add(pid)
            self._later(lambda: self._ask(pid, now))
            known = self._known.get(pid)
        if known is None:
            return ProcessUse(total=now.own + now.file, visible=now.own)
        own, file = max(0, now.own - known.excess.own), max(0, now.file - known.excess.file)
        return ProcessUse(total=own + file, visible=own)

    def _is_due(self, known: Shared | None, now: RamBytes) -> bool:
        if known is None:
            return True
        at, change = self._clock(), now - known.resident
        changed = max(abs(change.own), abs(change.file)) > _CHANGE
        return at >= known.next_at and (changed or at - known.asked_at >= _SELDOM)

    def _ask(self, pid: int, now: RamBytes) -> None:
        begun = self._clock()
        part = _part(self._proc / str(pid) / "smaps_rollup")
        took = self._clock() - begun
        excess = RamBytes(0, 0) if part is None else RamBytes(max(0, now.own - part.own), max(0, now.file - part.file))
        self._known[pid] = Shared(now, excess, begun, begun + max(_OFTEN, _SHARE * took))
        self._asking.discard(pid)


def _part(path: Path) -> RamBytes | None:
    """The part of a process; None if the kernel does not say (before Linux 5.4), or it is gone."""
    with suppress(OSError, KeyError, ValueError):
        words = dict(line.split(":") for line in path.read_text().splitlines()[1:])
        anonymous, file, shared = (int(words[f"Pss_{kind}"].split()[0]) << 10 for kind in ("Anon", "File", "Shmem"))
        return RamBytes(anonymous + shared, file)
    return None


class _Worker:
    """A thread that does one thing after the other. It is begun with the first, and never waited for."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._begun = False

    def put(self, work: Callable[[], None]) -> None:
        if not self._begun:
            self._begun = True
            threading.Thread(target=self._run, name="lmxd-shared-pages", daemon=True).start()
        self._work.put(work)

    def _run(self) -> None:
        while True:
            self._work.get()()
