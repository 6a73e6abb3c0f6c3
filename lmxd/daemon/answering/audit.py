"""The audit log: a line for every grant, start, stop and end, and for every call that changes something or may not."""

from __future__ import annotations

import logging

from lmxd.acts import Actor, Acts
from lmxd.core.decisions import (
    AskToYield,
    Decision,
    EndLease,
    GrantLease,
    MoveLease,
    SleepInstance,
    StartInstance,
    StopInstance,
    WakeInstance,
)
from lmxd.core.events import Event, InstanceExited
from lmxd.core.words import InstanceId, Owner
from lmxd.rpc.peer import Peer

log = logging.getLogger("lmxd.audit")


def decided(decision: Decision, acts: Acts) -> None:
    """Log a decision, within the bounds of whom it is about. A refusal is logged as the outcome of its call."""
    match decision:
        case StartInstance() | StopInstance() | SleepInstance() | WakeInstance():
            acts.came(_kind(decision.instance), lambda: _line(decision))
        case GrantLease() | MoveLease() | AskToYield() | EndLease():
            acts.came(_key(decision.owner), lambda: _line(decision))


def heard(event: Event, acts: Acts) -> None:
    """Log that an instance ended by itself, which nobody decided."""
    if isinstance(event, InstanceExited) and (failure := event.failure) is not None:
        acts.came(_kind(event.instance), lambda: f"end {event.instance}: {failure.code}, {failure.message}")


def _line(decision: Decision) -> str:
    match decision:
        case StartInstance():
            return f"start {decision.instance}: {dict(decision.option.devices)}, {decision.why}"
        case StopInstance():
            return f"stop {decision.instance}: {decision.cause}, {decision.why}"
        case SleepInstance():
            return f"sleep {decision.instance}: {decision.why}"
        case WakeInstance():
            return f"wake {decision.instance}: {decision.why}"
        case GrantLease():
            return f"grant {decision.lease} on {decision.instance} to {_who(decision.owner)}"
        case MoveLease():
            return f"move {decision.lease} of {_who(decision.owner)} from {decision.before} to {decision.instance}"
        case AskToYield():
            return f"ask {_who(decision.owner)} to yield {decision.lease}: {decision.why}"
        case EndLease():
            of = f"end {decision.lease} on {decision.instance} of {_who(decision.owner)}"
            return f"{of}: {decision.reason} {decision.detail}"
    raise AssertionError(f"no line is written of {decision!r}")


def _kind(instance: InstanceId) -> str:
    """By what starts and stops are counted: they have no owner. All holds are of one kind."""
    return f"instances of {instance.rpartition('#')[0]}"


def _key(owner: Owner) -> str:
    """By whom lines are counted: each user for whom a gateway asks has a bound of its own."""
    return f"uid {owner.uid}" + (f" for {owner.user}" if owner.user else "")


def _who(owner: Owner) -> str:
    """``user`` needs no quotes: the protocol allows no other characters than those of names."""
    return f"uid {owner.uid} pid {owner.pid}" + (f" for {owner.user}" if owner.user else "")


def actor(peer: Peer) -> Actor:
    """A peer as the log names it. Refusals are counted by uid: a process has as many pids as it likes."""
    as_whom = "" if peer.subordinate is None else f" by subordinate uid {peer.subordinate}"
    return Actor(f"uid {peer.uid} pid {peer.pid}{as_whom}", f"uid {peer.uid}")
