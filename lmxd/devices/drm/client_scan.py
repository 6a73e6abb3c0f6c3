"""The GPU clients of processes: of ours at each look, of all others now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from lmxd.devices.driver_calls import CallRound
from lmxd.devices.drm.fdinfo import DrmClient, client, descriptors
from lmxd.devices.drm.kernel_files import entries
from lmxd.devices.roots import Roots

_PERIOD: Final = 10.0
"""Seconds between two looks at all processes of the machine, each of which reads hundreds of files."""
_ANY: Final = "fdinfo"
"""The name by which descriptors are asked of which the card is not known before."""


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

    def of(self, pids: Set[int], nodes: Mapping[str, str], driver: CallRound) -> SeenClients:
        """The clients of these processes alone. Each card is asked for its own: of one that hangs there are none."""
        at: dict[str, list[_Descriptor]] = {}
        hidden = set()
        for pid in sorted(pids):
            try:
                for path, node in descriptors(self._roots, pid):
                    address = nodes.get(node, "")
                    at.setdefault(address or node or _ANY, []).append(_Descriptor(pid, path, address))
            except PermissionError:
                hidden.add(pid)
        answers = driver.ask({place: partial(_read, mine) for place, mine in at.items()})
        hidden |= {descriptor.pid for descriptor in at.get(_ANY, ()) if _ANY not in answers}
        found: dict[tuple[str, str], ClientHolder] = {}
        for seen in answers.values():
            hidden |= seen.hidden
            for holder in seen.holders:
                found.setdefault((holder.client.address, holder.client.number), holder)
        return SeenClients(tuple(found.values()), frozenset(hidden))

    def others(
        self, ours: SeenClients, pids: Set[int], nodes: Mapping[str, str], driver: CallRound
    ) -> tuple[ClientHolder, ...]:
        """The clients of all other processes that may be seen, and that none of ``ours`` shares."""
        if self._clock() >= self._due:
            self._due = self._clock() + _PERIOD
            everybody = {int(entry.name) for entry in entries(self._roots.proc) if entry.name.isdecimal()}
            found = self.of(everybody - pids, nodes, driver).holders
            self._others = (*found, *(h for h in self._others if h.client.address in driver.late))
        shared = {(holder.client.address, holder.client.number) for holder in ours.holders}
        return tuple(
            holder
            for holder in self._others
            if holder.pid not in pids
            and (holder.client.address, holder.client.number) not in shared
            and (self._roots.proc / str(holder.pid)).exists()
        )


class _Descriptor(NamedTuple):
    """A descriptor of a process, and the address of its card where that is known."""

    pid: int
    path: Path
    address: str


def _read(wanted: Sequence[_Descriptor]) -> SeenClients:
    """The clients behind descriptors, each once for each process."""
    found: dict[tuple[int, str, str], ClientHolder] = {}
    hidden = set()
    for pid, path, address in wanted:
        try:
            seen = client(path, address)
        except PermissionError:
            hidden.add(pid)
            continue
        if seen is not None:
            found.setdefault((pid, seen.address, seen.number), ClientHolder(pid, seen))
    return SeenClients(tuple(found.values()), frozenset(hidden))
