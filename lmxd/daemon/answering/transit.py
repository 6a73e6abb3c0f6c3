"""Leases in transit: parked, with no instance until the one to which they move is ready."""

from __future__ import annotations

import asyncio

from lmxd.core.books.state import State
from lmxd.core.decisions import Decision, EndLease, MoveLease
from lmxd.core.holders import Lease
from lmxd.core.words import Ask, LeaseId
from lmxd.errors import LmxdError


class InstanceGone(LmxdError):
    """The error for an instance that ended between the decision to grant a lease and the answer."""

    def __init__(self) -> None:
        super().__init__("stopped", "the instance ended as it was granted", "ask again")


class Transit:
    """Has callers wait until parked leases have an instance again."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._arrivals: dict[LeaseId, asyncio.Future[None]] = {}
        self.carried: dict[LeaseId, tuple[tuple[int, int], ...]] = {}
        """Of leases that have moved: the slots of the instance before, and where what they had lies now."""

    async def over(self, lease: Lease, within: float | None = None) -> None:
        """Returns when a lease has an instance, within so many seconds. LmxdError ``wait_expired``; InstanceGone if it
        ends."""
        try:
            async with asyncio.timeout(within):
                while lease.parked is not None and self._state.leases.get(lease.id) is lease:
                    loop = asyncio.get_running_loop()
                    await asyncio.shield(self._arrivals.setdefault(lease.id, loop.create_future()))
        except TimeoutError:
            what = f"lease {lease.id} moves to another instance, which is not there within {within:g} s"
            raise LmxdError("wait_expired", what, "wait for longer: lmxctl queue says what it waits for") from None
        if self._state.leases.get(lease.id) is not lease:
            raise InstanceGone

    def decided(self, decision: Decision) -> None:
        """Note a decision as soon as it is made: who asks for a lease then is told of its new instance already."""
        if isinstance(decision, MoveLease) and decision.instance != decision.before:
            self.carried[decision.lease] = decision.carried
        elif isinstance(decision, EndLease):
            self.carried.pop(decision.lease, None)

    def tell(self, decision: Decision) -> None:
        """Take in a decision that is carried out: a lease may have arrived, or ended."""
        if isinstance(decision, (MoveLease, EndLease)) and (arrival := self._arrivals.pop(decision.lease, None)):
            arrival.set_result(None)


def ask_of(state: State, lease: Lease) -> Ask:
    """The ask of the instance that a lease has, or of the one that a parked lease had."""
    return state.instances[lease.instance].ask if lease.parked is None else lease.parked.back
