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

Noted: TypeAlias = Callable[[str, User | None, int], None]
"""Hears that a conversation is over: its profile, whose it was if that is known, and the most tokens that it had."""


@dataclass(slots=True)
class _Watched:
    """An instance: the most tokens of the conversation in each slot, and those whose they may be."""

    profile: str
    most: list[int] = field(default_factory=list)
    users: set[User] = field(default_factory=set)

    @property
    def user(self) -> User | None:
        return next(iter(self.users)) if len(self.users) == 1 else None


class Conversations:
    """Watches the slots, and tells of each conversation that is over.

    One is over when its slot has less than half of its tokens, or another user has the only slot, or its instance ends.
    One that moves along with its lease goes on. Of several slots nobody knows which one a user has: the conversation is
    a user's if the instance had no other.
    """

    def __init__(self, noted: Noted) -> None:
        self._noted = noted
        self._watched: dict[InstanceId, _Watched] = {}
        self._carried: dict[LeaseId, Carry] = {}

    def used(self, instance: InstanceId, profile: str, used: Sequence[int | None]) -> None:
        """The tokens in each slot of an instance; None in place of those of one that is at work."""
        watched = self._watched.setdefault(instance, _Watched(profile))
        watched.most += [0] * (len(used) - len(watched.most))
        for slot, tokens in enumerate(used):
            if tokens is None:
                continue
            if 2 * tokens < watched.most[slot]:
                self._over(watched, slot)
            watched.most[slot] = max(watched.most[slot], tokens)

    def observe(self, decision: Decision) -> None:
        """Whose conversations they are, where they go, and when they end."""
        match decision:
            case GrantLease():
                self._arrives(decision.instance, decision.profile, decision.owner.who)
            case CarryConversation():
                self._carried[decision.lease] = decision.carry
            case MoveLease():
                self._moves(decision)
            case EndLease():
                self._carried.pop(decision.lease, None)
            case StopInstance(cause=Cause.GROWN | Cause.SHRUNK):
                self._watched.pop(decision.instance, None)  # its conversation goes on elsewhere
            case ForgetInstance():
                if watched := self._watched.pop(decision.instance, None):
                    for slot in range(len(watched.most)):
                        self._over(watched, slot)

    def _arrives(self, instance: InstanceId, profile: str, user: User) -> None:
        watched = self._watched.setdefault(instance, _Watched(profile))
        if len(watched.most) == 1 and user not in watched.users:
            self._over(watched, 0)
            watched.users.clear()
        watched.users.add(user)

    def _moves(self, move: MoveLease) -> None:
        """What the slot had to which a conversation was carried is over; what it left is not."""
        self._arrives(move.instance, move.profile, move.owner.who)
        carry, there = self._carried.pop(move.lease, None), self._watched[move.instance]
        before = None if carry is None else self._watched.get(carry.instance)
        if carry is None or before is None or carry.slot >= len(before.most):
            return
        tokens, before.most[carry.slot] = before.most[carry.slot], 0
        if move.slot is not None:
            there.most += [0] * (move.slot + 1 - len(there.most))
            self._over(there, move.slot)
            there.most[move.slot] = tokens

    def _over(self, watched: _Watched, slot: int) -> None:
        if watched.most[slot]:
            self._noted(watched.profile, watched.user, watched.most[slot])
        watched.most[slot] = 0
