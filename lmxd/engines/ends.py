"""The reason for a process's end, as its status alone tells it."""

from __future__ import annotations

import signal

from lmxd.engines.engine import Diagnosis
from lmxd.failures import FailureCode


def by_signal(status: int | None) -> Diagnosis | None:
    """The reason why a process ended that a signal ended: ``status`` is minus its number; None if none did."""
    if status is None or status >= 0:
        return None
    if status == -signal.SIGKILL:
        message = "the engine was killed, by the kernel for want of memory or by somebody"
        return Diagnosis(code=FailureCode.KILLED, message=message)
    if status == -signal.SIGILL:
        message = "the engine has instructions that this processor lacks (SIGILL): take another build"
        return Diagnosis(code=FailureCode.CRASHED, message=message)
    return Diagnosis(code=FailureCode.CRASHED, message=f"the engine crashed ({_name(-status)})")


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"  # one of those for real time has no name
