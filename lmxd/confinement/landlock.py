"""Landlock by the kernel's own calls: the files that a process may use from now on (man 7 landlock)."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Mapping
from enum import IntFlag
from pathlib import Path
from typing import Final

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""System calls; their numbers are the same on all processors."""
_VERSION: Final = 1
_PATH_BENEATH: Final = 1
_NET_ALL: Final = 3
"""Binding and connecting of TCP, from the fourth version on."""
_SCOPE_ALL: Final = 3
"""Abstract sockets and signals, from the sixth version on."""


class Right(IntFlag):
    """A use of files: LANDLOCK_ACCESS_FS of linux/landlock.h."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    MAKE_SOCK = 1 << 9
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15


READ: Final = Right.READ_FILE | Right.READ_DIR
RUN: Final = READ | Right.EXECUTE
_OF_FILES: Final = Right.EXECUTE | Right.WRITE_FILE | Right.READ_FILE | Right.TRUNCATE | Right.IOCTL_DEV
_KNOWN: Final = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""Version -> how many rights it knows, from the lowest bit on. Later versions have no more that matter."""

_libc = ctypes.CDLL(None, use_errno=True)


def version() -> int:
    """The version of the kernel's Landlock; 0 without."""
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)))


def restrict(allowed: Mapping[Path, Right]) -> bool:
    """Refuse this process every use of files but what is ``allowed`` beneath these paths; also TCP and signals.

    Paths that are not there are left out. False if the kernel cannot. Raises OSError if it fails.
    Call it before any thread is started.
    """
    if not (abi := version()):
        return False
    handled = (1 << _KNOWN[min(abi, max(_KNOWN))]) - 1
    attributes = struct.pack("=QQQ", handled, _NET_ALL if abi >= 4 else 0, _SCOPE_ALL if abi >= 6 else 0)
    ruleset = _call(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    try:
        for path, rights in allowed.items():
            _allow(ruleset, path, rights & handled)
        _libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return True


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not Path(f"/proc/self/fd/{place}").is_dir():
            rights &= _OF_FILES
        _call(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, place), 0)
    finally:
        os.close(place)


def _call(number: int, *arguments: int | bytes | ctypes.c_size_t) -> int:
    found = int(_libc.syscall(number, *arguments))
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found
