"""The GPU clients of processes: of ours at each look, of all others now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Final

from lmxd.devices.drm.fdinfo import DrmClient, clients
from lmxd.devices.drm.kernel_files import entries
from lmxd.devices.roots import Roots

_PERIOD: Final = 10.0
"""Seconds between two looks at all processes of the machine, each of which reads hundreds of files."""


@dataclass(frozen=True, slots=True)
class ClientHolder:
    """A client and the process that has it; of several that share it, one of ours comes first."""

    pid: int
    client: DrmClient


@dataclass(frozen=True, slots=True)
class SeenClients:
    """The holders that could be seen, and the pids among those asked for that could not."""

    holders: tuple[ClientHolder, ...]
    hidden: frozenset[int] = frozenset()


class ClientScan:
    """Reads fdinfo. The others' clients are as they were at the last look at all, less those that ended."""

    def __init__(self, roots: Roots, clock: Callable[[], float] = time.monotonic) -> None:
        self._roots = roots
        self._clock = clock
        self._others: tuple[ClientHolder, ...] = ()
        self._due = float("-inf")

    def of(self, pids: Set[int], nodes: Mapping[str, str]) -> SeenClients:
        """The clients of these processes alone."""
        found: dict[tuple[str, str], ClientHolder] = {}
        hidden = set()
        for pid in sorted(pids):
            try:
                for client in clients(self._roots, pid, nodes):
                    found.setdefault((client.address, client.number), ClientHolder(pid, client))
            except PermissionError:
                hidden.add(pid)
        return SeenClients(tuple(found.values()), frozenset(hidden))

    def others(self, ours: SeenClients, pids: Set[int], nodes: Mapping[str, str]) -> tuple[ClientHolder, ...]:
        """The clients of all other processes that may be seen, and that none of ``ours`` shares."""
        if self._clock() >= self._due:
            self._due = self._clock() + _PERIOD
            everybody = {int(entry.name) for entry in entries(self._roots.proc) if entry.name.isdecimal()}
            self._others = self.of(everybody - pids, nodes).holders
        shared = {(holder.client.address, holder.client.number) for holder in ours.holders}
        return tuple(
            holder
            for holder in self._others
            if holder.pid not in pids
            and (holder.client.address, holder.client.number) not in shared
            and (self._roots.proc / str(holder.pid)).exists()
        )
