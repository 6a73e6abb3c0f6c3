"""The pid namespace that lmxd is in: a driver may name processes as another one does."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Final

from lmxd.devices.measurement import ProcessUse

_INITIAL: Final = "pid:[4026531836]"
"""The namespace that the kernel starts with (PROC_PID_INIT_INO)."""


class Namespace:
    """The processes as lmxd sees them. ``initial``: drivers' pids are ours; None if that is not known."""

    def __init__(self, proc: Path) -> None:
        self._proc = proc
        try:
            self.initial: bool | None = os.readlink(proc / "self/ns/pid") == _INITIAL
        except OSError:
            self.initial = None

    def ours(self, uses: Mapping[int, ProcessUse], pids: Set[int]) -> tuple[dict[int, ProcessUse], bool]:
        """The uses by our pids as far as they are known, and whether one of ``pids`` may have bytes all the same."""
        if self.initial or not uses:
            return dict(uses), self.initial is False
        unseen = {pid for pid in uses if pid not in pids and not (self._proc / str(pid)).exists()}
        if self.initial is False and unseen:  # all are named as elsewhere: a number that is ours here is another's
            alias = self._aliases(pids)
            found = {alias.get(pid, pid): use for pid, use in uses.items() if pid in alias or pid in unseen}
            return found, not uses.keys() <= alias.keys()
        found = {pid: use for pid, use in uses.items() if pid not in unseen}
        alias = self._aliases(pids - found.keys())
        found |= {alias.get(pid, pid): uses[pid] for pid in unseen}
        strange = any(pid not in alias for pid in unseen)
        return found, strange or (self.initial is False and pids.isdisjoint(found))

    def _aliases(self, pids: Iterable[int]) -> dict[int, int]:
        """Our pids by what other namespaces call them, where the kernel says so."""
        return {other: pid for pid in pids for other in self._names(pid) if other != pid}

    def _names(self, pid: int) -> list[int]:
        try:
            lines = (self._proc / str(pid) / "status").read_text(errors="replace").splitlines()
            return [int(word) for line in lines if line.startswith("NSpid:") for word in line.split()[1:]]
        except (OSError, ValueError):
            return []  # it has ended
