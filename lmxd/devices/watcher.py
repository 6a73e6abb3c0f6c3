"""The one thread that looks at devices. A look that does not come back in time makes them all unavailable."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace

from lmxd.devices.measurement import Measurement, Probe

DEADLINE = 10.0
"""Seconds after which a look as a whole counts as hanging, and all devices as unavailable. Each driver has a deadline
of its own, of 2 s; this is for what hangs besides."""

_FAILED = "this is a fault of lmxd: report it with its log"
_HANGS = "see dmesg; if the driver does not come back, reboot"


@dataclass(frozen=True, slots=True)
class Look:
    """The measurements of all devices and when the look at them was begun."""

    begun: float
    measurements: tuple[Measurement, ...]


class Watcher:
    """Calls the probes in a thread of its own, one look at a time.

    While a look hangs, every further one is answered at once with what was last known,
    marked unavailable. The thread is a daemon, so that a hung driver cannot keep the process alive.
    """

    def __init__(self, probes: Sequence[Probe], clock: Callable[[], float], deadline: float = DEADLINE) -> None:
        self._probes = probes
        self._clock = clock
        self.deadline = deadline
        self._last: tuple[Measurement, ...] = ()
        self._turn = asyncio.Lock()
        self._late = False
        self._closed = False
        self._pending: asyncio.Future[Look] | None = None
        self._jobs: queue.SimpleQueue[tuple[asyncio.Future[Look], Set[int]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def look(self, pids: Set[int]) -> Look:
        """One look at all devices, begun after this call. Takes at most the deadline."""
        async with self._turn:
            begun = self._clock()
            if self._closed or (self._pending is not None and not self._pending.done()):
                return self._unanswered(begun)
            self._pending = asyncio.get_running_loop().create_future()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="lmxd-devices", daemon=True)
                self._thread.start()
            self._jobs.put((self._pending, pids))
            await asyncio.wait((self._pending,), timeout=self.deadline)
            self._late = not self._pending.done()
            if self._late:
                return self._unanswered(begun)
            self._last = self._pending.result().measurements
            return self._pending.result()

    @property
    def hanging(self) -> bool:
        """Returns whether a look was not answered in time, and still is not."""
        return self._late and self._pending is not None and not self._pending.done()

    def close(self) -> None:
        """End the thread, when it next comes back from a look. No further look is begun."""
        self._closed = True
        self._jobs.put(None)

    def _unanswered(self, begun: float) -> Look:
        why = f"no answer for {self.deadline:g} s: the driver hangs"
        return Look(begun, tuple(replace(m, unavailable=why, remedy=_HANGS) for m in self._last))

    def _run(self) -> None:
        while job := self._jobs.get():
            future, pids = job
            begun = self._clock()
            try:
                look = Look(begun, tuple(m for probe in self._probes for m in probe.measure(pids)))
            except Exception as error:  # a fault of the probe must not end the only thread
                measurements = tuple(
                    replace(m, unavailable=f"the probe failed: {error!r}", remedy=_FAILED) for m in self._last
                )
                look = Look(begun, measurements)
            try:
                future.get_loop().call_soon_threadsafe(_answer, future, look)
            except RuntimeError:
                break  # the loop is closed
        for probe in self._probes:
            probe.close()


def _answer(future: asyncio.Future[Look], look: Look) -> None:
    if not future.done():
        future.set_result(look)
