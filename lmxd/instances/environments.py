"""The environments of processes, read without waiting for one that is stuck in the kernel.

A process that a driver does not let go of may hold the lock of its memory, and so everybody who reads that (as ps(1)
does). A thread that reads such a one is left behind, and what comes after it is read by another.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterable
from typing import Final

from lmxd.instances import proc

log = logging.getLogger(__name__)

Environment = dict[str, str]
_PATIENCE: Final = 2.0
"""Seconds for one environment: it is a copy of a few thousand bytes."""


def environments(
    pids: Iterable[int],
    read: Callable[[int], Environment] = proc.environment,
    patience: float = _PATIENCE,
    *,
    most_late: int | None = None,
) -> dict[int, Environment]:
    """The environment of each process, but of those that do not show it in time.

    ``most_late``: when so many have not, the rest is not asked; by default all are, however long it takes.
    """
    found: dict[int, Environment] = {}
    rest, late = list(pids), 0
    while rest and (most_late is None or late < most_late):
        reader = _Reader(rest, read)
        found |= reader.until_it_hangs(patience)
        rest = reader.rest
        if rest:
            late += 1
            log.warning("pid %d is stuck in the kernel, and does not show its environment: passed over", rest.pop(0))
    return found


class _Reader:
    """Reads one environment after the other in a thread of its own. ``rest``: those that it has not read."""

    def __init__(self, pids: Iterable[int], read: Callable[[int], Environment]) -> None:
        self.rest = list(pids)
        self._pids = tuple(self.rest)
        self._read = read
        self._left = threading.Event()
        self._answers: queue.SimpleQueue[Environment] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="lmxd-environments", daemon=True).start()

    def until_it_hangs(self, patience: float) -> dict[int, Environment]:
        """All that it reads until one takes too long."""
        found = {}
        try:
            while self.rest:
                found[self.rest[0]] = self._answers.get(timeout=patience)
                del self.rest[0]
        except queue.Empty:
            self._left.set()
        return found

    def _run(self) -> None:
        for pid in self._pids:
            if self._left.is_set():
                break
            self._answers.put(self._read(pid))
