"""Events for decisions that lmxd failed to carry out, so that nobody waits for them for ever."""

from __future__ import annotations

from lmxd.core.decisions import (
    CarryConversation,
    CheckActivity,
    Decision,
    SaveConversation,
    SleepInstance,
    StartInstance,
    WakeInstance,
)
from lmxd.core.events import ActivitySeen, ConversationCarried, ConversationSaved, Event, InstanceExited, SleepFailed
from lmxd.core.words import Failure
from lmxd.errors import LmxdError
from lmxd.failures import FailureCode


def outcome(decision: Decision, error: Exception, at: float) -> Event | None:
    """The event that stands for the failure; None where the core waits for none.

    An engine that could not be asked counts as busy: nobody is cut off on a guess.
    """
    match decision:
        case StartInstance():
            failure = Failure(code=FailureCode.INTERNAL, message=f"lmxd failed to start it: {error!r}")
            if isinstance(error, LmxdError):
                failure = Failure(code=error.code, message=str(error))
            return InstanceExited(at=at, instance=decision.instance, failure=failure)
        case SleepInstance() | WakeInstance():
            failure = Failure(code=FailureCode.INTERNAL, message=f"lmxd failed to tell it: {error!r}")
            return SleepFailed(at=at, instance=decision.instance, failure=failure)
        case CheckActivity():
            return ActivitySeen(at=at, instance=decision.instance, busy=True, worked=False)
        case SaveConversation():
            return ConversationSaved(at=at, instance=decision.instance, carry=None)
        case CarryConversation():
            return ConversationCarried(at=at, ticket=decision.ticket, slot=None)
        case _:
            return None
