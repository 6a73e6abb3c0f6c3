"""The conversations in the slots of elastic instances: each lasts until another takes its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from lmxd.core.decisions import (
    CarryConversation,
    Decision,
    EndLease,
    ForgetInstance,
    GrantLease,
    MoveLease,
    StopInstance,
)
from lmxd.core.moves import Carry
from lmxd.core.words import Cause, InstanceId, LeaseId, User
from lmxd.engines.carrier import SlotUse

Noted: TypeAlias = Callable[[str, User | None, int], None]
"""Hears that a conversation is over: its profile, whose it was if that is known, and the most tokens that it had."""


@dataclass(slots=True)
class _Conversation:
    """The conversation in a slot: the most tokens that it had, and the slot as it was seen last."""

    most: int = 0
    last: SlotUse | None = None


@dataclass(slots=True)
class _Watched:
    """An instance: the conversations in its slots, and those whose they may be."""

    profile: str
    slots: list[_Conversation] = field(default_factory=list)
    users: set[User] = field(default_factory=set)

    @property
    def user(self) -> User | None:
        return next(iter(self.users)) if len(self.users) == 1 else None

    def has(self, count: int) -> None:
        """It has so many slots at least."""
        self.slots += [_Conversation() for _ in range(count - len(self.slots))]


class Conversations:
    """Watches the slots, and tells of each conversation that is over.

    One is over when a prompt found less than half of it in its slot, or another user has the only slot, or its instance
    ends. One that moves along with its lease goes on. Of several slots nobody knows which one a user has: then it is a
    user's if the instance had no other.
    """

    def __init__(self, noted: Noted) -> None:
        self._noted = noted
        self._watched: dict[InstanceId, _Watched] = {}
        self._carried: dict[LeaseId, tuple[Carry, ...]] = {}

    def used(self, instance: InstanceId, profile: str, used: Sequence[SlotUse | None]) -> None:
        """The use of each slot of an instance; None in place of that of one that is at a prompt."""
        watched = self._watched.setdefault(instance, _Watched(profile))
        watched.has(len(used))
        for slot, use in zip(watched.slots, used, strict=False):
            if use is None or use == slot.last:
                continue
            if 2 * use.kept < slot.most and (slot.last is None or slot.last.task != use.task):
                self._over(watched, slot)
            slot.most, slot.last = max(slot.most, use.tokens), use

    def observe(self, decision: Decision) -> None:
        """A decision that tells whose conversations they are, where they go, and when they end."""
        match decision:
            case GrantLease():
                self._arrives(decision.instance, decision.profile, decision.owner.who)
            case CarryConversation():
                self._carried[decision.lease] = decision.carries
            case MoveLease():
                self._moves(decision)
            case EndLease():
                self._carried.pop(decision.lease, None)
            case StopInstance(cause=Cause.GROWN | Cause.SHRUNK):
                self._watched.pop(decision.instance, None)  # its conversation goes on elsewhere
            case ForgetInstance():
                if watched := self._watched.pop(decision.instance, None):
                    for slot in watched.slots:
                        self._over(watched, slot)

    def _arrives(self, instance: InstanceId, profile: str, user: User) -> None:
        watched = self._watched.setdefault(instance, _Watched(profile))
        if len(watched.slots) == 1 and user not in watched.users:
            self._over(watched, watched.slots[0])
            watched.users.clear()
        watched.users.add(user)

    def _moves(self, move: MoveLease) -> None:
        """A conversation goes on in another slot, whose own is over."""
        self._arrives(move.instance, move.profile, move.owner.who)
        there, now = self._watched[move.instance], dict(move.carried)
        for carry in self._carried.pop(move.lease, ()):
            before = self._watched.get(carry.instance)
            if before is None or carry.slot >= len(before.slots):
                continue
            left = before.slots[carry.slot]
            tokens, left.most = left.most, 0
            if (slot := now.get(carry.slot)) is not None:
                there.has(slot + 1)
                self._over(there, there.slots[slot])
                there.slots[slot].most = tokens

    def _over(self, watched: _Watched, slot: _Conversation) -> None:
        if slot.most:
            self._noted(watched.profile, watched.user, slot.most)
        slot.most = 0
