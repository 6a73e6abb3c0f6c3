"""Looks at the devices: as often as it matters, told to the core first and then to whoever learns from them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from lmxd.core.books.state import State
from lmxd.core.events import Event, InstanceExited, InstanceReady, InstanceSlept, LeaseRequested, MemoryMeasured
from lmxd.core.instances import Instance
from lmxd.core.policy.residents import any_missing
from lmxd.core.words import DeviceReading, InstanceId, Phase
from lmxd.daemon.present import Present
from lmxd.daemon.readings import device_readings, layout, with_pool
from lmxd.devices.diagnostics import DiagnosticLog
from lmxd.devices.watcher import Look, Watcher
from lmxd.pausing import pause

log = logging.getLogger(__name__)

_RECLAIMING_PERIOD: Final = 0.1
_WAITING_PERIOD: Final = 0.25
_BUSY_PERIOD: Final = 1.0
_CALM_PERIOD: Final = 5.0
"""Seconds between two looks: while bytes are awaited of what has ended or fallen asleep, while anybody waits, while
anything is used, and while all that runs is unused."""
_CALM: Final = 10.0
"""Seconds without a lease and without work after which an instance is unused."""
_AFTER_A_FAULT: Final = 1.0
"""Seconds until the next look after one that failed for a reason that nobody foresaw."""


class Measuring:
    """Looks at the devices from time to time, and reports what it read.

    ``pids``: the processes of each instance. ``seen`` is told of each look: when it began, its readings, and whether
    there are other devices than before.
    """

    def __init__(
        self,
        state: State,
        present: Present,
        pids: Callable[[], Awaitable[Mapping[InstanceId, set[int]]]],
        report: Callable[[Event], None],
        seen: Callable[[float, Sequence[DeviceReading], bool], Awaitable[None]],
    ) -> None:
        self._state = state
        self._present = present
        self._pids = pids
        self._report = report
        self._seen = seen
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()
        self._calm = False
        """Whether it sleeps for the longest time."""
        self._diagnostics = DiagnosticLog()
        self.watcher = Watcher((), time.monotonic)

    def watch(self, probes: Iterable[Any]) -> None:
        """Look with these from now on."""
        self.watcher.close()
        self.watcher = Watcher(tuple(probes), time.monotonic)

    def heard(self, event: Event) -> None:
        """Some events make it worth while to look soon."""
        begins = isinstance(event, LeaseRequested) and (self._calm or event.ticket in self._state.tickets)
        if begins or isinstance(event, (InstanceExited, InstanceReady, InstanceSlept)):
            self._wake.set()

    async def keep(self) -> None:
        """Look again and again; not at all while nothing runs and nobody waits."""
        while True:
            self._wake.clear()
            period = self.period()
            self._calm = period == _CALM_PERIOD
            await pause(self._wake, period)
            try:
                await self.look()
            except Exception:
                log.exception("the devices could not be looked at")  # no look is fresh then, and status says so
                await asyncio.sleep(_AFTER_A_FAULT)

    def period(self) -> float | None:
        """Seconds until the next look; None: when something happens."""
        state = self._state
        if any(i.phase is Phase.RECLAIMING or _is_settling(i) for i in state.instances.values()):
            return _RECLAIMING_PERIOD
        if len(state.queue) or any(i.tickets for i in state.instances.values()):
            return _WAITING_PERIOD
        if any_missing(state) or state.overcommitted_since or state.yielding:
            return _BUSY_PERIOD
        if not state.instances:
            return None
        since = time.monotonic() - _CALM
        unused = all(i.vacant and not i.busy and i.active_at < since for i in state.instances.values())
        return _CALM_PERIOD if unused else _BUSY_PERIOD

    async def look(self) -> None:
        """Once; again, if a reload has other devices looked at by the time that the answer comes."""
        present = self._present
        async with self._turn:  # so that the processes are those of its beginning, and readings come in their order
            look, pids = await self._measured()
            present.begun, present.measured = look.begun, look.measurements
            self._diagnostics.see(look.measurements)
            readings = device_readings(look, present.catalog.config.gpu, pids, self._state)
            before, present.layout = present.layout, layout(look.measurements)
            present.catalog.see(look.measurements)
            self._report(MemoryMeasured(at=time.monotonic(), begun=look.begun, readings=readings))
        await self._seen(look.begun, readings, before != present.layout)

    async def _measured(self) -> tuple[Look, Mapping[InstanceId, set[int]]]:
        """One look, and the processes of instances before and after it: one that began meanwhile is no stranger."""
        pids, watcher = await self._pids(), None
        while watcher is not self.watcher:
            watcher = self.watcher
            look = await watcher.look({pid for mine in pids.values() for pid in mine})
        after = await self._pids()
        return with_pool(look, self._state), {
            name: pids.get(name, set()) | after.get(name, set()) for name in pids.keys() | after.keys()
        }


def _is_settling(instance: Instance) -> bool:
    """Whether an engine says that it sleeps, and the devices are to show what that frees."""
    return instance.phase is Phase.DOZING and instance.slept_at is not None
