"""What the core hears of a decision that lmxd failed to carry out, so that nobody waits for it for ever."""

from __future__ import annotations

from lmxd.core import decisions as d
from lmxd.core import events as e
from lmxd.core.words import Failure
from lmxd.errors import LmxdError


def outcome(decision: d.Decision, error: Exception, at: float) -> e.Event | None:
    """The event that stands for the failure; None where the core waits for none.

    An engine that could not be asked counts as busy: nobody is cut off on a guess.
    """
    match decision:
        case d.StartInstance():
            failure = Failure(code="internal", message=f"lmxd failed to start it: {error!r}")
            if isinstance(error, LmxdError):
                failure = Failure(code=error.code, message=str(error))
            return e.InstanceExited(at=at, instance=decision.instance, failure=failure)
        case d.CheckActivity():
            return e.ActivitySeen(at=at, instance=decision.instance, busy=True, worked=False)
        case _:
            return None
