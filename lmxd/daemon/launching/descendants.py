"""The processes that descend from those of instances and holds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from lmxd.core.words import InstanceId
from lmxd.instances import proc

_FRESH: Final = 0.25
"""Seconds for which a pass holds: it reads a file of each process of the machine."""


class Descendants:
    """Finds the children of processes by a pass over all there are, however many threads or roots they have.

    A pass is made in a thread, and at most four times a second.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "lmxd-processes")
        """A thread of its own: every look at the devices waits for it, and for nobody's model files."""
        self._turn = asyncio.Lock()
        self._looked = -_FRESH
        self._children: Mapping[int, list[int]] = {}

    async def of(self, roots: Mapping[InstanceId, int]) -> dict[InstanceId, set[int]]:
        """Each of these processes, and what descends from it: every process belongs to the nearest root above it."""
        if not roots:
            return {}
        children = await self._look()
        first = {pid: instance for instance, pid in reversed(list(roots.items()))}
        return {instance: proc.below(pid, children, first.keys()) for pid, instance in first.items()}

    async def related(self, pid: int, roots: Set[int]) -> int | None:
        """One of ``roots`` that is above or below a process, if any."""
        children = await self._look()
        near = {*proc.above(pid, children), *proc.below(pid, children)} - {pid}
        return next(iter(near & roots), None)

    async def _look(self) -> Mapping[int, list[int]]:
        async with self._turn:
            if self._clock() - self._looked >= _FRESH:
                self._looked = self._clock()
                self._children = await asyncio.get_running_loop().run_in_executor(self._thread, proc.children)
            return self._children
