"""Holds: bytes for processes that are not ours. They are watched, never stopped."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from lmxd.core.events import Event, InstanceExited, InstanceReady, LeaseReleased
from lmxd.core.words import InstanceId, LeaseId
from lmxd.daemon.launching.descendants import Descendants
from lmxd.errors import LmxdError
from lmxd.instances import proc


@dataclass(frozen=True, kw_only=True, slots=True)
class AdoptedProcess:
    """The process that uses a hold. ``lease`` ends with it."""

    pid: int
    born: int
    pidfd: int
    lease: LeaseId


class Holds:
    """The processes that use holds. A hold whose adopted process has ended is over."""

    def __init__(
        self,
        report: Callable[[Event], None],
        note: Callable[[InstanceId], None],
        engines: Callable[[], Mapping[InstanceId, int]],
        descendants: Descendants,
    ) -> None:
        """``note``: who writes down which process uses a hold. ``engines``: the processes of instances."""
        self._report = report
        self._note = note
        self._engines = engines
        self._descendants = descendants
        self._adopted: dict[InstanceId, AdoptedProcess] = {}

    def begin(self, instance: InstanceId) -> None:
        """Begin a hold: it has its bytes from the start."""
        self._later(InstanceReady(at=time.monotonic(), instance=instance))

    def end(self, instance: InstanceId) -> None:
        """End a hold. Bytes that its process still uses are foreign from now on."""
        if adopted := self._adopted.pop(instance, None):
            self._forget(adopted.pidfd)
        self._later(InstanceExited(at=time.monotonic(), instance=instance))

    def adopt(self, instance: InstanceId, lease: LeaseId, pid: int, uid: int) -> None:
        """Count what ``pid`` and its children take as the hold's.

        LmxdError if it is not a process of ``uid``'s, or is another hold's or an instance's own.
        """
        pidfd, born = _own(pid, uid)
        try:
            _require_free(pid, pid if pid in self._others(instance) else None)
        except LmxdError:
            os.close(pidfd)
            raise
        if before := self._adopted.pop(instance, None):
            self._forget(before.pidfd)
        self._watch(instance, AdoptedProcess(pid=pid, born=born, pidfd=pidfd, lease=lease))
        self._note(instance)

    async def require(self, pid: int, uid: int, mine: InstanceId | None = None) -> None:
        """LmxdError if ``pid`` could not be adopted now, or is above or below what counts for others than ``mine``."""
        os.close(_own(pid, uid)[0])
        others = self._others(mine)
        _require_free(pid, pid if pid in others else await self._descendants.related(pid, others))

    def restore(self, instance: InstanceId, lease: LeaseId, pid: int, born: int) -> None:
        """Go on with a process that was adopted before. If it is gone, so is the lease."""
        pidfd = proc.watch(pid, born)
        if pidfd is None:
            self._later(LeaseReleased(at=time.monotonic(), lease=lease))
        else:
            self._watch(instance, AdoptedProcess(pid=pid, born=born, pidfd=pidfd, lease=lease))

    def adopted(self, instance: InstanceId) -> AdoptedProcess | None:
        return self._adopted.get(instance)

    def pids(self) -> dict[InstanceId, int]:
        """The process of each hold that has one."""
        return {instance: adopted.pid for instance, adopted in self._adopted.items()}

    def _others(self, mine: InstanceId | None) -> set[int]:
        """The processes of instances, and of holds other than ``mine``."""
        return {pid for name, pid in {**self._engines(), **self.pids()}.items() if name != mine}

    def _watch(self, instance: InstanceId, adopted: AdoptedProcess) -> None:
        self._adopted[instance] = adopted
        asyncio.get_running_loop().add_reader(adopted.pidfd, self._exited, instance)

    def _exited(self, instance: InstanceId) -> None:
        adopted = self._adopted.pop(instance)
        self._forget(adopted.pidfd)
        self._report(LeaseReleased(at=time.monotonic(), lease=adopted.lease))

    def _forget(self, pidfd: int) -> None:
        with suppress(ValueError):
            asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)

    def _later(self, event: Event) -> None:
        """Report an event a little later: a decision is being carried out now."""
        asyncio.get_running_loop().call_soon(self._report, event)


def _require_free(pid: int, taken: int | None) -> None:
    """LmxdError if ``taken``, which is ``pid`` or a process above or below it, counts for another."""
    if taken is not None:
        why = "counts" if taken == pid else f"is above or below process {taken}, which counts"
        remedy = "end that hold first, or name a process that shares none with it"
        raise LmxdError("invalid_params", f"pid is {pid}: it {why} for another instance or hold", remedy)


def _own(pid: int, uid: int) -> tuple[int, int]:
    """A pidfd of a process, and the clock tick of its start. LmxdError if it is not a process of ``uid``'s."""
    try:
        pidfd = os.pidfd_open(pid)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "there is none of so high a number"
        raise LmxdError("invalid_params", f"pid is {pid}: {reason}", "name a running process") from error
    try:
        owner, born = os.stat(f"/proc/{pid}").st_uid, proc.born(pid)
    except OSError as error:
        os.close(pidfd)
        raise LmxdError("invalid_params", f"pid is {pid}: {error.strerror}", "name a running process") from error
    if uid not in (owner, 0) or born is None:
        os.close(pidfd)
        raise LmxdError("not_permitted", f"process {pid} belongs to uid {owner}", "hold for a process of yours")
    return pidfd, born
