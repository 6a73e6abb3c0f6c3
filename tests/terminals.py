"""A terminal of its own for a command, and all that it writes there."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence


def written(command: Sequence[str], env: Mapping[str, str], *, columns: int = 0, seconds: float = 30.0) -> bytes:
    """All that a command writes to its terminal, which says how wide it is if ``columns`` are given."""
    ours, theirs = pty.openpty()
    if columns:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    child = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    text = b""
    try:
        while data := os.read(ours, 65536):
            text += data
    except OSError:
        pass  # EIO: the other end is closed
    os.close(ours)
    child.wait(seconds)
    return text
