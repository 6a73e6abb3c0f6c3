"""The audit log: a line for every grant, refusal, start, stop and end, and for every act of an administrator."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from lmxd.core.decisions import AskToYield, Decision, EndLease, GrantLease, RefuseLease, StartInstance, StopInstance
from lmxd.core.words import Owner
from lmxd.errors import LmxdError
from lmxd.rpc.peer import Peer

log = logging.getLogger("lmxd.audit")


def decided(decision: Decision) -> None:
    """Log a decision."""
    match decision:
        case StartInstance():
            log.info("start %s: %s, %s", decision.instance, dict(decision.option.demand), decision.why)
        case StopInstance():
            log.info("stop %s: %s, %s", decision.instance, decision.cause, decision.why)
        case GrantLease():
            log.info("grant %s on %s to %s", decision.lease, decision.instance, _who(decision.owner))
        case RefuseLease():
            refusal, who = decision.refusal, _who(decision.owner)
            log.info("refuse %s to %s: %s: %s", decision.ask.profile, who, refusal.code, refusal.message)
        case AskToYield():
            log.info("ask %s to yield %s: %s", _who(decision.owner), decision.lease, decision.why)
        case EndLease():
            log.info("end %s on %s: %s %s", decision.lease, decision.instance, decision.reason, decision.detail)


def _who(owner: Owner) -> str:
    """``user`` needs no quotes: the protocol allows no other characters than those of names."""
    return f"uid {owner.uid} pid {owner.pid}" + (f" for {owner.user}" if owner.user else "")


@contextmanager
def refusals(peer: Peer, what: str) -> Iterator[None]:
    """Log a refusal that comes before the core is asked, such as ``unknown_model`` or a class that is not permitted."""
    try:
        yield
    except LmxdError as error:
        log.info("refuse %r to uid %d pid %d: %s: %s", what, peer.uid, peer.pid, error.code, error.message)
        raise


def act(peer: Peer, what: str, *, permitted: bool) -> None:
    """Log an act that only administrators may do, and whether it was permitted."""
    verdict = "may" if permitted else "may not"
    log.log(logging.INFO if permitted else logging.WARNING, "uid %d pid %d %s %s", peer.uid, peer.pid, verdict, what)
