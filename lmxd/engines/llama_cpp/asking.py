"""Asking a program what it is: it is run to its end, or ended at a deadline with all that it started."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lmxd.accounts import SystemUser

_LAST: Final = 1.0
"""Seconds that a program has to end after SIGKILL."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Printed:
    """The exit status of a program (negative: by that signal), and what it printed."""

    status: int
    output: str
    errors: str

    @property
    def text(self) -> str:
        return self.output + self.errors

    @property
    def last_error(self) -> str:
        """The last line of its errors; else how it ended."""
        said = self.errors.strip().splitlines()
        ended = f"it died of signal {-self.status}" if self.status < 0 else f"it ended with status {self.status}"
        return said[-1].strip() if said else ended


def ask(
    argv: Sequence[str | Path], env: Mapping[str, str], deadline: float, account: SystemUser | None = None
) -> Printed:
    """Run a program as ``account`` (None: as we do). OSError, or SubprocessError after ``deadline`` seconds.

    A script that starts another program would leave that one behind: its whole session is ended. A program that is
    inside of a driver that hangs cannot be ended, and is left to itself.
    """
    process = subprocess.Popen(  # noqa: S603 (a program of ours, or the one that root configured)
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
        env=dict(env), cwd="/", start_new_session=True, **({} if account is None else account.spawning()),
    )  # fmt: skip
    try:
        output, errors = process.communicate(timeout=deadline)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)  # not reaped yet: the group is its own
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_LAST)
        raise
    return Printed(status=process.returncode, output=output, errors=errors)
