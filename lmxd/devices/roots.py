"""The directories in which the kernel shows its devices and processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Roots:
    """Where /sys, /proc and /dev are: elsewhere than usual only for the files of another machine."""

    sys: Path = Path("/sys")
    proc: Path = Path("/proc")
    dev: Path = Path("/dev")
