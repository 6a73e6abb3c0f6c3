"""Tells gateways where conversations went: a smaller instance has taken the place of the one that had them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set

from lmxd.core.books.state import State
from lmxd.core.decisions import Decision, MoveLease, StartInstance, StopInstance
from lmxd.core.moves import Move
from lmxd.core.words import Ask, Cause, InstanceId
from lmxd.daemon.answering.remembered import Remembered
from lmxd.rpc.notifications import InstanceShrunk
from lmxd.rpc.server import Connection


class Replacements:
    """Notifies those connections of a smaller instance whose users have had the one before.

    ``users``: the uids that an instance has served. ``reusing``: connections that may use a lease for several requests.
    """

    def __init__(
        self,
        state: State,
        users: Remembered[set[int]],
        reusing: Set[int],
        connections: Callable[[], Mapping[int, Connection]],
    ) -> None:
        self._state = state
        self._users = users
        self._reusing = reusing
        self._connections = connections

    def tell(self, decision: Decision) -> None:
        """Take in a decision that is carried out: conversations may lie elsewhere now, or will when it is ready."""
        match decision:
            case StopInstance(cause=Cause.SHRUNK) if (now := self._state.instances.get(decision.instance)) is not None:
                if (smaller := now.smaller) is not None:  # it is known soon what that is called
                    self._notify(now.id, now.id, smaller, {slot: slot for slot in range(now.ask.spread)})
            case StartInstance() if decision.carries:
                slots = {carry.slot: n for n, carry in enumerate(decision.carries)}
                self._notify(decision.carries[0].instance, decision.instance, decision.ask, slots)
            case MoveLease(move=Move.SHRUNK) if (now := self._state.instances.get(decision.instance)) is not None:
                self._notify(decision.before, decision.instance, now.ask, dict(decision.carried))

    def _notify(self, before: InstanceId, instance: InstanceId, ask: Ask, slots: Mapping[int, int]) -> None:
        told = InstanceShrunk(
            model=ask.profile,
            before=before,
            instance=instance,
            ctx=ask.context,
            instance_slots=ask.spread,
            slots=list(slots.items()),
        )
        there, known = self._connections(), self._users.get(before) or ()
        for number in self._reusing & there.keys() if slots else ():
            if there[number].peer.uid in known:
                there[number].notify(told)
