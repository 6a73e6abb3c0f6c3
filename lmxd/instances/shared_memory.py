"""Files in /dev/shm that the processes of an instance share: removed when all are gone, for who is killed unlinks none.

Python's resource tracker does it, if it is given the time, and nobody has killed it.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from lmxd.files import decoded, read_text, replace_text
from lmxd.instances import proc

log = logging.getLogger(__name__)

_ROOT: Final = Path("/dev/shm")  # noqa: S108 (nothing is made there)
_MAPPED: Final = re.compile(rb"^\S+ ..{2}s \S+ \S+ (\d+) +/dev/shm/([^/\n]+)$", re.MULTILINE)
"""A shared mapping in /proc/PID/maps: inode and name. An unlinked one ends with " (deleted)"."""
_PASSING: Final = re.compile(r"(psm_|sem\.|torch_|nccl-|vllm_)[\w.-]{1,200}", re.ASCII)
"""Names that programs make up for one run: Python's shared memory and semaphores, PyTorch's tensors, NCCL's buffers.
All other files may be anybody's that are meant to stay, a model that somebody has put there among them."""
_MOST: Final = 64 * 1024
"""Bytes of a record that are read; and files that one may name are no more than its bytes."""


class SharedMemory:
    """The passing files in /dev/shm that processes of one instance were seen to map: name -> inode.

    ``record``: a file of ours with them, so that they are known when both they and we were killed; None for none.
    """

    def __init__(self, record: Path | None = None, root: Path = _ROOT) -> None:
        self.record = record
        self._root = root
        self._seen = {} if record is None else dict(_recorded(record))

    def __bool__(self) -> bool:
        return bool(self._seen)

    def see(self, pids: Iterable[int]) -> None:
        """Look at what these processes map now."""
        found = {name: inode for pid in pids for name, inode in self._own(pid).items()}
        if self._seen.items() >= found.items():
            return
        self._seen |= found
        if self.record is not None:
            replace_text(self.record, json.dumps(self._seen))

    def remove(self) -> list[str]:
        """Unlink those that are still there and nobody maps any more; returns them. The record goes, too."""
        there = {name for name, inode in self._seen.items() if self._inode(name) == inode}
        left = sorted(there - _mapped_by_others()) if there else []
        for name in left:
            with suppress(OSError):
                (self._root / name).unlink()
                log.info("%s was left behind by an engine: removed", self._root / name)
        self._seen = {}
        if self.record is not None:
            self.record.unlink(missing_ok=True)
        return left

    def _own(self, pid: int) -> dict[str, int]:
        """The passing files that a process maps and its user owns. Another user's are not ours to remove."""
        users, found = proc.uids(pid), {}
        for name, inode in _mapped(pid).items():
            with suppress(OSError):
                if _PASSING.fullmatch(name) and (self._root / name).lstat().st_uid in users:
                    found[name] = inode
        return found

    def _inode(self, name: str) -> int | None:
        """The inode of a file there of our own user's, or of the engines' where we are root; None if there is none."""
        with suppress(OSError):
            found = (self._root / name).lstat()
            return found.st_ino if os.geteuid() in (0, found.st_uid) else None
        return None


def _mapped(pid: int) -> dict[str, int]:
    """The files of /dev/shm that a process shares; none if it is gone or another user's."""
    with suppress(OSError), open(f"/proc/{pid}/maps", "rb") as file:
        return {os.fsdecode(name): int(inode) for inode, name in _MAPPED.findall(file.read())}
    return {}


def _mapped_by_others() -> set[str]:
    """All that any process maps that we may look into: those of other users cannot open what is for ours alone."""
    return {name for pid in os.listdir("/proc") if pid.isdecimal() for name in _mapped(int(pid))}


def _recorded(record: Path) -> Iterator[tuple[str, int]]:
    """The entries of a record that are what they may be."""
    with suppress(OSError, ValueError):
        found = decoded(read_text(record, _MOST, regular=True))
        for name, inode in found.items() if isinstance(found, dict) else ():
            if _PASSING.fullmatch(name) and isinstance(inode, int):
                yield name, inode
