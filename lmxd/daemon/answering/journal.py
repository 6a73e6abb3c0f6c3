"""The journal: the history of the last tickets, leases and instances of each user, for ``lmxctl explain``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lmxd.core.decisions import (
    AskToYield,
    Decision,
    EndLease,
    ForgetInstance,
    GrantLease,
    MoveLease,
    RefuseLease,
    ReportProgress,
    ReportSwap,
    SaveConversation,
    SleepInstance,
    StartInstance,
    StopInstance,
    WakeInstance,
)
from lmxd.core.events import Event, InstanceExited
from lmxd.core.words import DeviceId, Owner
from lmxd.daemon.answering.refused import message, places, turns_of
from lmxd.daemon.answering.remembered import Remembered
from lmxd.text import sentence_among, several

_ENTRIES = 64
"""The most entries of one subject: beyond it, those in the middle are dropped, for its start and its end matter most.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class JournalEntry:
    """One entry: a decision or an end, its time in seconds since the epoch, its subjects, and its owner's uid."""

    at: float
    event: str
    text: str
    about: tuple[str, ...]
    uid: int | None = None


@dataclass(slots=True)
class History:
    """The entries about one subject, and the uids (``owners``) that they concern."""

    owners: set[int] = field(default_factory=set)
    entries: list[JournalEntry] = field(default_factory=list)
    related: dict[str, None] = field(default_factory=dict)
    """Other subjects of the same entries: the ticket of a lease, the instance of both."""


class Journal:
    """The histories by the id of the ticket, lease or instance."""

    def __init__(self, lives: Callable[[str], bool], called: Callable[[], Mapping[DeviceId, str]]) -> None:
        """``lives``: whether there is such a ticket, lease or instance now. ``called``: devices' names for people."""
        self._histories: Remembered[History] = Remembered(lives)
        self._called = called

    def get(self, subject: str) -> History | None:
        return self._histories.get(subject)

    def note(self, decision: Decision) -> None:
        """Add a decision to the history of each of its subjects."""
        text = _sentence(decision, self._called)
        if text is not None:
            self._add(type(decision).__name__, text, tuple(_subjects(decision)), getattr(decision, "owner", None))

    def heard(self, event: Event) -> None:
        """Add to the history of an instance that it ended by itself: nobody decided that."""
        if isinstance(event, InstanceExited) and (failure := event.failure) is not None:
            text = f"{event.instance} ended ({failure.code}): {failure.message}"
            self._add(type(event).__name__, text, (event.instance,), None)

    def _add(self, event: str, text: str, subjects: tuple[str, ...], owner: Owner | None) -> None:
        uid = None if owner is None else owner.uid
        entry = JournalEntry(at=time.time(), event=event, text=text, about=subjects, uid=uid)
        for subject in subjects:
            history = self._histories.get(subject) or History()
            self._histories.put(subject, uid, history)
            history.related.update(dict.fromkeys(x for x in subjects if x != subject))
            if owner is not None:
                history.owners.add(owner.uid)
            history.entries.append(entry)
            if len(history.entries) > _ENTRIES:
                del history.entries[_ENTRIES // 2]


def _subjects(decision: Decision) -> Iterator[str]:
    for kind in ("ticket", "lease", "instance"):
        if name := getattr(decision, kind, None):
            yield name


def _sentence(decision: Decision, called: Callable[[], Mapping[DeviceId, str]]) -> str | None:
    match decision:
        case StartInstance():
            return f"{decision.instance} starts on {places(decision.option.devices, called())}: {decision.why}"
        case StopInstance():
            return f"{decision.instance} is told to stop ({decision.cause}): {decision.why}"
        case SaveConversation():
            what = "conversation is" if len(decision.slots) == 1 else "conversations are"
            return f"of {decision.instance}, the {what} saved: {decision.why}"
        case SleepInstance():
            return f"{decision.instance} is told to sleep: {decision.why}"
        case WakeInstance():
            return f"{decision.instance} is told to wake: {decision.why}"
        case GrantLease():
            granted = f"{decision.lease} of {decision.owner.called} is granted on {decision.instance}"
            return f"{granted} after {decision.waited:.1f} s: {decision.why}"
        case MoveLease() if decision.instance == decision.before:
            return f"{decision.lease} of {decision.owner.called} stays on {decision.instance}: {decision.why}"
        case MoveLease():
            moved = f"{decision.lease} of {decision.owner.called} moves from {decision.before} to {decision.instance}"
            return f"{moved} after {decision.waited:.1f} s, {_carried(decision)}: {decision.why}"
        case RefuseLease():
            return f"{decision.owner.called} is refused ({decision.refusal.code}): {message(decision.refusal)}"
        case ReportProgress() if decision.position:
            when = "nothing can be said of when" if decision.eta is None else f"expected in {decision.eta:.0f} s"
            turns = "".join(f"; {turn}" for turn in turns_of(decision.turns))
            waits = _waits([name for name in decision.waits_for if name not in {t.instance for t in decision.turns}])
            return f"{decision.ticket} is number {decision.position} in the queue, {when}{waits}{turns}"
        case ReportProgress():
            return f"{decision.ticket} waits for {decision.instance} to be ready"
        case ReportSwap():
            return _swap(decision)
        case AskToYield() if decision.within is not None:
            return f"{decision.lease} is asked to yield within {decision.within:.0f} s: {decision.why}"
        case AskToYield():
            return f"{decision.lease} need not yield: {decision.why}"
        case EndLease():
            return f"{decision.lease} ended: {decision.reason}" + (f", {decision.detail}" if decision.detail else "")
        case ForgetInstance():
            return f"the bytes of {decision.instance} are seen free"
    return None


def _carried(move: MoveLease) -> str:
    if len(move.carried) > 1:
        return f"{len(move.carried)} conversations were carried along"
    return f"its conversation {'is processed anew' if move.slot is None else f'was carried to slot {move.slot}'}"


def _swap(decision: ReportSwap) -> str:
    waits = f"{decision.ticket} ({decision.profile}) waits for the bytes of {decision.instance}"
    if decision.unused and decision.closes_in is None:
        return f"{decision.instance} opens again: nobody uses the leases on it, and closing it frees nothing"
    if decision.unused:
        return f"{waits}: it is leased, but unused; it goes when that lease ends"
    if decision.closes_in is None:
        return f"{decision.instance} stays after all: it need not make way for {decision.ticket}"
    if decision.closes_in > 0:
        turn = f"it serves those who want it for up to {decision.closes_in:.1f} s more"
        return f"{waits}: {turn} (loading both models takes {decision.price:.1f} s)"
    return f"{waits}: its turn is over, it takes no new requests, finishes what it does, and goes"


def _waits(names: Sequence[str]) -> str:
    """The instances that a ticket waits for, or the quota, which is a sentence of its own."""
    quota = sentence_among(names)
    return f": {quota}" if quota else f", waits for {several(names)}" if names else ""
