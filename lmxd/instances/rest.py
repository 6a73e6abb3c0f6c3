"""The rest of a session whose leader has exited: told to end, given a moment to clean up after itself, then killed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from lmxd.instances import proc
from lmxd.instances.exits import exited
from lmxd.instances.shared_memory import SharedMemory

GRACE: Final = 5.0
"""Seconds until those that are left are killed. An engine's workers end within two, and when the last of them has ended
so does Python's resource tracker, which unlinks what they shared before."""
_DEATH: Final = 2.0
"""Seconds for a killed one to be gone; a driver may keep it for longer, which is waited for elsewhere."""


async def end_rest(leader: int, shared: SharedMemory, grace: float = GRACE) -> None:
    """Return when no process of a session is left but its ``leader``, or none that can be ended.

    The leader is a zombie, or its pid is nobody's: a session's number is given to no process as long as one is in it.
    """
    for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, _DEATH)):
        members = await asyncio.to_thread(_members, leader, shared)
        try:
            _signal(members, number)
            await _gone(members, seconds)
        finally:
            for pidfd in members:
                os.close(pidfd)
        if not members:
            return


def _members(leader: int, shared: SharedMemory) -> list[int]:
    """The pidfds of a session's living processes. What they share is noted while they live."""
    found = []
    for pid in proc.session(leader):
        with suppress(OSError):
            pidfd = os.pidfd_open(pid)
            if proc.session_of(pid) == leader:  # asked after the pidfd was opened: it is still the one
                found.append(pidfd)
                shared.see((pid,))
            else:
                os.close(pidfd)
    return found


def _signal(pidfds: Iterable[int], number: int) -> None:
    for pidfd in pidfds:
        with suppress(OSError):
            signal.pidfd_send_signal(pidfd, number)


async def _gone(pidfds: Iterable[int], seconds: float) -> None:
    """Wait until all have exited, but no longer than that."""
    loop, living = asyncio.get_running_loop(), set(pidfds)
    deadline = loop.time() + seconds
    while living and (left := deadline - loop.time()) > 0:
        living -= await asyncio.to_thread(exited, living, left)
