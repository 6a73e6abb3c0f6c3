"""A program: ``python as_user.py UID GID GROUPS PROGRAM ARGUMENTS…`` runs another of this directory as a user.

What PROGRAM imports is imported here, as root: an engine's user need not be able to read Python's own files, but the
drivers that PROGRAM loads are to see what an engine of that user would see. GROUPS are numbers with commas.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
import sys
from typing import Any

_USED = (ctypes, json, struct, Any)
"""By the programs."""


def main(uid: str, gid: str, groups: str, program: str, *arguments: str) -> None:
    with open(program) as file:
        code = compile(file.read(), program, "exec")
    os.setgroups([int(group) for group in groups.split(",") if group])
    os.setgid(int(gid))
    os.setuid(int(uid))
    sys.argv = [program, *arguments]
    exec(code, {"__name__": "__main__"})  # noqa: S102 (a program of ours)


if __name__ == "__main__":
    main(*sys.argv[1:])
