"""Capabilities that a service is given for itself (man 7 capabilities)."""

from __future__ import annotations

import ctypes
from typing import Final

_AMBIENT: Final = 47
_CLEAR_ALL: Final = 4
"""PR_CAP_AMBIENT and PR_CAP_AMBIENT_CLEAR_ALL of prctl(2)."""


def keep_from_children() -> None:
    """Keep this process's capabilities, and give none to the programs that it starts.

    systemd hands them over as ambient ones, which every program that is started inherits. Call it before there is a
    second thread: each has its own.
    """
    ctypes.CDLL(None).prctl(_AMBIENT, _CLEAR_ALL, 0, 0, 0)  # refused by kernels before 4.3, which have none
