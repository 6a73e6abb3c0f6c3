"""Leases whose request has been answered, kept for a moment: the next request of the same kind need not ask for one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass
from typing import Final

from lmxd.rpc.client import AsyncLease

_LINGER: Final = 0.025
"""Seconds that a lease is kept for a next request: a client that has its answer asks at once, or not soon."""
_OLDEST: Final = 2.0
"""Seconds after its grant from which a lease is used no more: quotas, weights and settings may have changed."""


@dataclass(frozen=True, slots=True)
class _Spare:
    lease: AsyncLease
    until: float


class SpareLeases:
    """Leases that nobody uses for the moment, by what they were asked for.

    ``let_go``: gives one back. ``now``: the time in seconds.
    """

    def __init__(self, let_go: Callable[[AsyncLease], None], now: Callable[[], float] = time.monotonic) -> None:
        self._let_go = let_go
        self._now = now
        self._calls = 0
        self._granted: dict[str, float] = {}
        """The leases that may be used again -> the time of their grant."""
        self._spare: dict[Hashable, list[_Spare]] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def calls(self) -> int:
        """How often it was said that somebody waits: ``granted`` wants the count from before a lease was asked for."""
        return self._calls

    def granted(self, lease: AsyncLease, calls: int) -> None:
        """Note a lease that is in use from now on. Where somebody waits, it is for one request.

        That somebody waits may have been said right behind the grant, and so be heard before it is noted here.
        """
        if not lease.wanted and calls == self._calls:
            self._granted[lease.lease] = self._now()

    def take(self, kind: Hashable, near: str | None = None, apart: Collection[str] = ()) -> AsyncLease | None:
        """A lease of this kind, which is in use from now on; None if there is none.

        ``near``: the instance that it has to be at; ``apart``: those that it is not to be at.
        """
        now = self._now()
        while kept := [
            s for s in self._spare.get(kind, ()) if near in (None, s.lease.instance) and s.lease.instance not in apart
        ]:
            spare = kept[-1]
            self._spare[kind].remove(spare)
            if now < spare.until:
                return spare.lease
            self.end(spare.lease)
        return None

    def put(self, kind: Hashable, lease: AsyncLease) -> None:
        """Keep a lease for a moment, or give it back if it is for no other request."""
        now, granted = self._now(), self._granted.get(lease.lease)
        if granted is None or now - granted >= _OLDEST:
            self.end(lease)
            return
        self._spare.setdefault(kind, []).append(_Spare(lease, now + _LINGER))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LINGER, self._look)

    def ended(self, lease: str) -> None:
        """Forget a lease that lmxd has ended."""
        self._granted.pop(lease, None)
        for kind, kept in self._spare.items():
            self._spare[kind] = [spare for spare in kept if spare.lease.lease != lease]

    def give_back(self) -> None:
        """Give back those that nobody uses: another kind is asked for."""
        for kept in self._spare.values():
            for spare in kept:
                self.end(spare.lease)
        self._spare.clear()

    def wanted(self) -> None:
        """Give back those that nobody uses, and use no other again: somebody waits."""
        self._calls += 1
        self.give_back()
        self._granted.clear()

    def end(self, lease: AsyncLease) -> None:
        """Give back a lease."""
        self._granted.pop(lease.lease, None)
        self._let_go(lease)

    def _look(self) -> None:
        """Give back what was kept for long enough, and look again while anything is kept."""
        self._timer, now = None, self._now()
        for kind in list(self._spare):
            kept = self._spare[kind]
            for spare in [spare for spare in kept if spare.until <= now]:
                kept.remove(spare)
                self.end(spare.lease)
            if not kept:
                del self._spare[kind]
        if self._spare:
            soonest = min(spare.until for kept in self._spare.values() for spare in kept)
            self._timer = asyncio.get_running_loop().call_later(max(0.0, soonest - now), self._look)
