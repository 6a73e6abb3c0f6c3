"""The system's daemon under the restrictions of its unit, by hand: tests/as_unit.py."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from lmxd_process import Lmxd

ROOT = Path(__file__).parent.parent
UID = 64_999
CALLS = os.environ.get("LMXD_UNIT_CALLS")
"""A file with what ``as_unit.py --resolve`` printed, for a machine without systemd-analyze."""


def _missing() -> str | None:
    if os.getuid() != 0:
        return "only root can become another user"
    if CALLS is None and shutil.which("systemd-analyze") is None:
        return "there is no systemd-analyze, and no LMXD_UNIT_CALLS"
    if ctypes.CDLL(None).syscall(444, None, 0, 1) < 5:
        return "the kernel has no Landlock for devices"
    for needed in (ROOT, Path(interpreter()).resolve()):
        if any(not folder.stat().st_mode & 0o001 for folder in needed.parents):
            return f"{needed} is not for other users"
    return None


def interpreter() -> str:
    """A Python of this version that other users may run, if there is one."""
    own = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    return own if Path(own).exists() else sys.executable


MISSING = _missing()
needs_unit = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

_RESTRICTIONS = ("Uid", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
PERFMON = f"{1 << 38:016x}"


class UnitLmxd(Lmxd):
    """A daemon in system mode, as a user without a name, with the unit's capability and little to write to."""

    def __init__(self, directory: Path, config: dict[str, Any]) -> None:
        places = {name: directory / name.lower() for name in ("RUNTIME", "STATE", "LOGS")}
        for place in places.values():
            place.mkdir()
            os.chown(place, UID, UID)
        for folder in (directory, *directory.parents):
            if folder.stat().st_uid == 0 and folder != Path("/tmp"):
                folder.chmod(folder.stat().st_mode | 0o011)
        shown = {f"{name}_DIRECTORY": str(place) for name, place in places.items()}
        super().__init__(directory, config, shown | {"PYTHONPATH": os.pathsep.join((str(ROOT), *sys.path))})
        self.config_path.chmod(0o644)
        self.socket = places["RUNTIME"] / "lmxd.sock"
        self._writable = [*places.values(), Path("/dev/shm")]

    def daemon_command(self) -> list[str]:
        words = [sys.executable, str(ROOT / "tests/as_unit.py"), "--uid", str(UID)]
        for path in self._writable:
            words += ["--writable", str(path)]
        words += ["--calls", CALLS] if CALLS else []
        return [*words, interpreter(), "-m", "lmxd", "--config", str(self.config_path), "-v"]


def restrictions(pid: int) -> dict[str, str]:
    """The lines of /proc/PID/status that say what a process may do."""
    lines = (line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {name: value for name, value in lines if name in _RESTRICTIONS}
