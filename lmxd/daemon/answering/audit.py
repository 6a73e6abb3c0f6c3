"""The audit log: a line for every grant, start, stop and end, and for every call that changes something or may not."""

from __future__ import annotations

import logging

from lmxd.acts import Actor
from lmxd.core.decisions import AskToYield, Decision, EndLease, GrantLease, StartInstance, StopInstance
from lmxd.core.words import Owner
from lmxd.rpc.peer import Peer

log = logging.getLogger("lmxd.audit")


def decided(decision: Decision) -> None:
    """Log a decision. A refusal is logged as the outcome of its call."""
    match decision:
        case StartInstance():
            log.info("start %s: %s, %s", decision.instance, dict(decision.option.demand), decision.why)
        case StopInstance():
            log.info("stop %s: %s, %s", decision.instance, decision.cause, decision.why)
        case GrantLease():
            log.info("grant %s on %s to %s", decision.lease, decision.instance, _who(decision.owner))
        case AskToYield():
            log.info("ask %s to yield %s: %s", _who(decision.owner), decision.lease, decision.why)
        case EndLease():
            about = (decision.lease, decision.instance, _who(decision.owner), decision.reason, decision.detail)
            log.info("end %s on %s of %s: %s %s", *about)


def _who(owner: Owner) -> str:
    """``user`` needs no quotes: the protocol allows no other characters than those of names."""
    return f"uid {owner.uid} pid {owner.pid}" + (f" for {owner.user}" if owner.user else "")


def actor(peer: Peer) -> Actor:
    """A peer as the log names it. Refusals are counted by uid: a process has as many pids as it likes."""
    as_whom = "" if peer.subordinate is None else f" by subordinate uid {peer.subordinate}"
    return Actor(f"uid {peer.uid} pid {peer.pid}{as_whom}", f"uid {peer.uid}")
