"""Holds: bytes for processes that are not ours. They are watched, never stopped."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress

from lmxd.core.events import Event, InstanceExited, InstanceReady, LeaseReleased
from lmxd.core.words import InstanceId, LeaseId
from lmxd.errors import LmxdError
from lmxd.instances.process import tree


class Holds:
    """Which processes use which hold. A hold whose adopted process has ended is over."""

    def __init__(self, report: Callable[[Event], None]) -> None:
        self._report = report
        self._adopted: dict[InstanceId, tuple[int, int, LeaseId]] = {}
        """pid, its pidfd, and the lease that ends with it."""

    def begin(self, instance: InstanceId) -> None:
        """It has its bytes from the start."""
        self._later(InstanceReady(at=time.monotonic(), instance=instance))

    def end(self, instance: InstanceId) -> None:
        """What its process still uses is foreign from now on."""
        if adopted := self._adopted.pop(instance, None):
            self._forget(adopted[1])
        self._later(InstanceExited(at=time.monotonic(), instance=instance))

    def adopt(self, instance: InstanceId, lease: LeaseId, pid: int, uid: int) -> None:
        """Count what ``pid`` and its children take as the hold's. LmxdError if it is not a process of ``uid``'s."""
        try:
            pidfd = os.pidfd_open(pid)
            owner = os.stat(f"/proc/{pid}").st_uid
        except OSError as error:
            raise LmxdError("invalid_params", f"pid is {pid}: {error.strerror}", "name a running process") from error
        if uid not in (owner, 0):
            os.close(pidfd)
            raise LmxdError("not_permitted", f"process {pid} belongs to uid {owner}", "hold for a process of yours")
        if before := self._adopted.pop(instance, None):
            self._forget(before[1])
        self._adopted[instance] = pid, pidfd, lease
        asyncio.get_running_loop().add_reader(pidfd, self._exited, instance)

    def pids(self) -> dict[InstanceId, set[int]]:
        return {instance: tree(pid) for instance, (pid, _, _) in self._adopted.items()}

    def pid(self, instance: InstanceId) -> int | None:
        return self._adopted[instance][0] if instance in self._adopted else None

    def _exited(self, instance: InstanceId) -> None:
        _, pidfd, lease = self._adopted.pop(instance)
        self._forget(pidfd)
        self._report(LeaseReleased(at=time.monotonic(), lease=lease))

    def _forget(self, pidfd: int) -> None:
        with suppress(ValueError):
            asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)

    def _later(self, event: Event) -> None:
        """Not on the spot: a decision is being carried out."""
        asyncio.get_running_loop().call_soon(self._report, event)
