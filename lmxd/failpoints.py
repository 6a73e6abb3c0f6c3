"""Places at which a test can make lmxd die, fail or dawdle: LMXD_FAILPOINT=NAME:kill, NAME:error or NAME:delay.

``NAME:kill@3`` means the third time. Several are separated by commas. Without the variable a place costs one look
into an empty dict.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from typing import Final

FALLIBLE: Final = frozenset(
    """
    commit_begin commit_end checkpoint_begin start_performed key_written before_spawn after_spawn while_loading
    """.split()
)
"""Places at which the outside world can refuse, and so an error can be asked for."""
PLACES: Final = FALLIBLE | frozenset(
    """
    request_received request_recorded committed checkpointed loaded ready_recorded before_grant grant_answered
    renewed released stop_performed before_sigterm after_sigterm exited exit_recorded reclaimed client_left reloading
    draining leaving sleep_performed slept wake_performed woken growth_asked growth_saved growth_restored growth_moved
    conversation_put_by conversation_back
    restore_begin restore_adopting restored restore_sweeping
    """.split()
)
_DELAY: Final = 0.5
"""Seconds that ``:delay`` dawdles."""


class Failpoints:
    """The faults that are to happen, by place. ``wanted`` is the variable's value; ValueError if it means nothing."""

    def __init__(self, wanted: str) -> None:
        self._actions: dict[str, tuple[str, int]] = {}
        self._seen: dict[str, int] = {}
        for word in filter(None, wanted.split(",")):
            name, _, action = word.strip().partition(":")
            what, _, nth = action.partition("@")
            known = name in (FALLIBLE if what == "error" else PLACES) and what in ("kill", "error", "delay")
            if not known or (nth and not nth.isdecimal()):
                raise ValueError(
                    f"LMXD_FAILPOINT is {wanted!r}: write NAME:kill, NAME:error or NAME:delay, with @3 for the third"
                    f" time; names: {' '.join(sorted(PLACES))}; with error: {' '.join(sorted(FALLIBLE))}"
                )
            self._actions[name] = what, int(nth or 0)

    def hit(self, name: str) -> None:
        """OSError (EIO) where an error is wanted."""
        if name not in self._actions:
            return
        what, nth = self._actions[name]
        self._seen[name] = self._seen.get(name, 0) + 1
        if nth not in (0, self._seen[name]):
            return
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "error":
            raise OSError(errno.EIO, f"failpoint {name}")
        time.sleep(_DELAY)


_active = Failpoints("")


def activate(wanted: str) -> None:
    """Activate failpoints for the whole process. ValueError as for ``Failpoints``."""
    global _active
    _active = Failpoints(wanted)


def hit(name: str) -> None:
    """A place is reached."""
    assert name in PLACES, name
    _active.hit(name)
