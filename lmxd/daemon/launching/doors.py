"""Endpoints of instances: nobody is spoken to there but the instance itself, and nobody comes in who may not."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lmxd.acl import open_to_users
from lmxd.core.words import Failure
from lmxd.daemon.launching.launched import Launched
from lmxd.failures import FailureCode
from lmxd.instances.ports import TcpListener, at_port, strangers
from lmxd.instances.proc import tree

_SURE: Final = 0.1
"""Seconds until a second look: a process that is about to exit has lost its sockets before it is gone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Door:
    """The listener at an instance's endpoint. ``own``: it is the instance. ``intruder``: it is somebody else.

    Neither is the case while nobody listens there.
    """

    own: bool
    intruder: Failure | None = None


async def door(launched: Launched) -> Door:
    """Look who would be spoken to at an instance's endpoint: its key and its clients' prompts are for nobody else."""
    address, process = launched.start.address, launched.process
    if address is None or process is None:
        return Door(own=False)
    if address.port is None:
        return Door(own=True)  # a socket in a directory where nobody else may make one
    for sure in (False, True):
        found, others = await asyncio.to_thread(_look, address.port, process.pid)
        if not others:
            return Door(own=bool(found))
        if not sure and not process.exited.done() and await process.exits_within(_SURE):
            return Door(own=False)
    message = f"{await asyncio.to_thread(str, others[0])}, where {launched.instance} is to be"
    return Door(own=False, intruder=Failure(code=FailureCode.ENDPOINT_TAKEN, message=message))


def _look(port: int, pid: int) -> tuple[list[TcpListener], list[TcpListener]]:
    """All listeners there, and those that are not the process or its children."""
    found = at_port(port)
    return found, strangers(found, tree(pid))


def admit(path: Path, holders: Iterable[int] = ()) -> None:
    """Open an instance's socket to its owner and to the uids of its holders: to no other, not even of the group.

    Servers make theirs for everybody. Where the file system knows no access lists, it is for the group of its directory
    as soon as there are holders. Raises OSError if it is no socket: a link is not followed.
    """
    handle = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISSOCK(os.fstat(handle).st_mode):
            raise OSError(f"{path} is no socket")
        this, uids = Path(f"/proc/self/fd/{handle}"), set(holders)
        try:
            open_to_users(this, uids)
        except OSError as error:
            if error.errno != errno.ENOTSUP:
                raise
            os.chown(this, -1, path.parent.stat().st_gid)
            this.chmod(0o660 if uids else 0o600)
    finally:
        os.close(handle)
