"""A control group (v2) per instance, where systemd has delegated ours: a bound on its RAM, and nothing left behind."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from lmxd.files import file_name
from lmxd.instances import proc

log = logging.getLogger(__name__)

_ROOT: Final = Path("/sys/fs/cgroup")
_OWN: Final = "lmxd"
"""The leaf that the daemon itself moves to: a group with controllers holds no processes."""


class Groups:
    """Makes control groups of instances. ``root`` is the delegated group; without one, nothing is done."""

    def __init__(self, root: Path | None) -> None:
        self.root = root

    @classmethod
    def delegated(cls) -> Groups:
        """Ours, if systemd says that it is ours to divide (Delegate=yes)."""
        found = _own()
        if found is not None and found.name == _OWN:
            found = found.parent
        if found is None or not _is_delegated(found):
            return cls(None)
        return cls.at(found)

    @classmethod
    def at(cls, root: Path) -> Groups:
        """Divide ``root``: the daemon into a leaf of its own, memory for each of the others."""
        try:
            own = root / _OWN
            own.mkdir(exist_ok=True)
            (own / "cgroup.procs").write_text(str(os.getpid()))
            if "memory" in (root / "cgroup.controllers").read_text().split():
                (root / "cgroup.subtree_control").write_text("+memory")
        except OSError as error:
            log.warning("control groups are not used: %s", error)
            return cls(None)
        return cls(root)

    def make(self, instance: str, memory_max: int | None) -> ControlGroup | None:
        """One for an instance, bounded to so many bytes of RAM. Raises OSError if the bound cannot be set."""
        if self.root is None:
            return None
        group = ControlGroup(self.root / _name(instance))
        group.path.mkdir(exist_ok=True)
        group.bound(memory_max)
        return group

    def find(self, instance: str, memory_max: int | None) -> ControlGroup | None:
        """The one that an earlier daemon made; its bound is lost when the daemon's own group is made whole."""
        if self.root is None or not (path := self.root / _name(instance)).is_dir():
            return None
        group = ControlGroup(path)
        with suppress(OSError):
            group.bound(memory_max)
        return group

    def sweep(self, kept: set[str]) -> None:
        """End whatever is left in groups of instances that are not ``kept``."""
        if self.root is not None:
            names = {_name(instance) for instance in kept}
            for path in self.root.glob("i-*"):
                if path.name not in names:
                    ControlGroup(path).end()


def _name(instance: str) -> str:
    return f"i-{file_name(instance)}"


class ControlGroup:
    """The control group of one instance."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def bound(self, memory_max: int | None) -> None:
        """Bound the group to so many bytes of RAM, where memory is ours to bound. Raises OSError."""
        if memory_max is not None and (self.path / "memory.max").exists():
            (self.path / "memory.max").write_text(str(memory_max))

    def add(self, pid: int) -> None:
        """Add a process with its children; later ones are born into the group. Raises OSError."""
        there: set[int] = set()
        while new := proc.tree(pid) - there:
            for each in sorted(new, key=lambda other: other != pid):
                with suppress(ProcessLookupError):
                    (self.path / "cgroup.procs").write_text(str(each))
            there |= new

    def kill(self) -> None:
        """SIGKILL for all that is in it, wherever it has moved to in sessions and trees. Linux 5.14."""
        with suppress(OSError):
            (self.path / "cgroup.kill").write_text("1")

    def oom_kills(self) -> int:
        """The number of times that the kernel killed something in it for memory."""
        with suppress(OSError, ValueError):
            words = dict(line.split() for line in (self.path / "memory.events").read_text().splitlines())
            return int(words.get("oom_kill", 0))
        return 0

    def end(self) -> None:
        """Kill what is left in it, and remove the group, unless something takes its time to die."""
        self.kill()
        with suppress(OSError):
            self.path.rmdir()


def _own() -> Path | None:
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            if line.startswith("0::/"):
                return _ROOT / line.removeprefix("0::/")
    return None


def _is_delegated(path: Path) -> bool:
    """systemd marks such a group, and gives it to the user of the service."""
    with suppress(OSError):
        if path.stat().st_uid == os.getuid() != 0:
            return True
    for name in ("user.delegate", "trusted.delegate"):
        with suppress(OSError):
            if os.getxattr(path, name) == b"1":
                return True
    return False
