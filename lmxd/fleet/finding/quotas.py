"""The limits of users over the whole fleet: a request waits here until its user may have it, and is refused as by lmxd.

The same books have the use and weight that nodes are told of a user, for its place in their queues.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Final, TypeAlias

from lmxd.config.section import GIB
from lmxd.errors import LmxdError
from lmxd.fleet.choosing.shares import FleetShares, UserPart
from lmxd.fleet.finding.wanted import WantedAnswer
from lmxd.fleet.reports import UserUse
from lmxd.fleet.users import FleetUserConfig, FleetUsers, user_of
from lmxd.gateway.leasing.progress import RequestProgress
from lmxd.gateway.leasing.stated import Stated
from lmxd.pausing import pause

_LOOK: Final = 1.0
"""Seconds after which it is looked again: nodes fall silent without a word."""
_Tell: TypeAlias = Callable[[RequestProgress], None]


class UserPlace:
    """The place of one request among those of its user. ``limits``: the user's, which may be others later."""

    def __init__(self, shares: FleetShares, part: UserPart, limits: Callable[[str], FleetUserConfig]) -> None:
        self._shares, self._limits_of = shares, limits
        self.part = part
        self.turn = asyncio.Event()

    @property
    def _limits(self) -> FleetUserConfig:
        return self._limits_of(self.part.user)

    def asked(self, node: str, now: float) -> None:
        """A node is asked whether it serves it at once."""
        self._shares.asked(self.part, node, now, waits=False)

    def waits_at(self, node: str, now: float) -> None:
        """It is to wait in a node's queue. LmxdError ``too_many_waiting``."""
        self._shares.asked(self.part, node, now, waits=True)
        self.require_waiting(now)

    def require_waiting(self, now: float) -> None:
        """LmxdError ``too_many_waiting`` if more of its user wait than may."""
        most, user = self._limits.max_waiting, self.part.user
        if most is not None and self._shares.had(user, now).waiting > most:
            what = f"{_called(user)} has {most} request{'' if most == 1 else 's'} waiting already"
            remedy = f"cancel one, or ask again later, or {_more('max_waiting')}"
            raise LmxdError("too_many_waiting", f"{what}, which is the most it may have", remedy)

    def require_possible(self) -> None:
        """LmxdError ``over_quota`` for one that its user may never have."""
        if self._limits.max_leases == 0:
            what = f"{_called(self.part.user)} has 0 of at most 0 leases"
            raise LmxdError("over_quota", what, _more("max_leases"))
        if self._limits.max_bytes is not None and self.part.size > self._limits.max_bytes:
            what = _too_large(self.part, 0, self._limits.max_bytes)
            raise LmxdError("over_quota", what, f"ask for less, or {_more('max_memory_gb')}")

    def beyond(self, now: float) -> tuple[str, str] | None:
        """The limit that it exceeds now, as a sentence, and its key; None if its user may have it."""
        had, limits = self._shares.had(self.part.user, now), self._limits
        if limits.max_leases is not None and had.leases >= limits.max_leases:
            what = f"{_called(self.part.user)} has {had.leases} of at most {limits.max_leases} leases"
            return what, "max_leases"
        if limits.max_bytes is not None and had.bytes + self.part.size > limits.max_bytes:
            return _too_large(self.part, had.bytes, limits.max_bytes), "max_memory_gb"
        return None


class FleetQuotas:
    """The users of a fleet at one gateway, or in one program. ``now``: the clock of the table."""

    def __init__(self, users: FleetUsers, shares: FleetShares, now: Callable[[], float]) -> None:
        self.users: FleetUsers = users
        self._shares, self._now = shares, now
        self._lines: dict[str, list[UserPlace]] = {}
        """Requests that wait for their user's limits, by user, in order of arrival."""

    def limits(self, user: str) -> FleetUserConfig:
        """A user's limits. One without a part has none."""
        return user_of(self.users, user) or FleetUserConfig()

    def replace(self, users: FleetUsers) -> None:
        """Go by other users, or other limits of theirs, also for requests that wait."""
        self.users = users
        self.heard()

    @property
    def held(self) -> int:
        """How many requests wait here for their users' limits, which no node knows of."""
        return sum(map(len, self._lines.values()))

    def here(self) -> dict[str, UserUse]:
        """The use of each user, of all whose requests are counted here."""
        return self._shares.here(self._now())

    def stated(self, user: str | None, node: str, waited: float) -> Stated:
        """A request and its user as a node is told of them."""
        if user is None:
            return Stated(waited=waited)
        limits = user_of(self.users, user)
        used = self._shares.used_elsewhere(user, node, self._now())
        return Stated(waited=waited, used_elsewhere=used, weight=None if limits is None else limits.weight)

    @contextlib.asynccontextmanager
    async def let_in(self, wanted: WantedAnswer, told: _Tell) -> AsyncIterator[WantedAnswer]:
        """The request, with its place, once its user may have it; it counts until the end of the block.

        LmxdError, as lmxd refuses it: ``over_quota`` at once, ``wait_expired``, ``too_many_waiting``.
        """
        if wanted.user is None or not self.limits(wanted.user).is_limited:
            yield wanted
            return
        part = self._shares.begin(wanted.user, self._shares.size(wanted.sought, self._now()))
        place = UserPlace(self._shares, part, self.limits)
        try:
            await self._turn(place, wanted, told)
            part.let_in, part.waiting = True, False
            self._look(part.user)
            yield replace(wanted, place=place)
        finally:
            self._shares.end(part, self._now())
            self._look(part.user)

    async def _turn(self, place: UserPlace, wanted: WantedAnswer, told: _Tell) -> None:
        """Wait until the user may have it, behind those of the same user that came before."""
        line = self._lines.setdefault(place.part.user, [])
        line.append(place)
        try:
            while beyond := self._beyond(place, line):
                place.require_possible()
                what, key = beyond
                left = wanted.left(self._now())
                if left == 0:
                    raise _refused(wanted, what, key)
                place.require_waiting(self._now())
                told(RequestProgress(state="queued", why=what))
                place.turn.clear()
                await pause(place.turn, _LOOK if left is None else min(left, _LOOK))
        finally:
            line.remove(place)
            if not line:
                del self._lines[place.part.user]

    def _beyond(self, place: UserPlace, line: list[UserPlace]) -> tuple[str, str] | None:
        """The limit that keeps it from being let in, and its key: its own, or that of the first in line."""
        now = self._now()
        if found := place.beyond(now) or (None if line[0] is place else line[0].beyond(now)):
            return found
        return None if line[0] is place else (f"{_called(place.part.user)} has another waiting", "max_leases")

    def heard(self) -> None:
        """A heartbeat came: there may be less of others."""
        for user in self._lines:
            self._look(user)

    def _look(self, user: str) -> None:
        """Have the first in line look again."""
        for place in self._lines.get(user, ())[:1]:
            place.turn.set()


def _refused(wanted: WantedAnswer, what: str, key: str) -> LmxdError:
    remedy = f"ask again when a lease of it has ended, or {_more(key)}"
    if wanted.wait == 0:
        return LmxdError("over_quota", what, remedy)
    return LmxdError("wait_expired", f"the request waited as long as it would: {what}", remedy)


def _too_large(part: UserPart, held: int, most: int) -> str:
    holds = f"{_called(part.user)} holds {held / GIB:.2f} of at most {most / GIB:.2f} GiB"
    return f"{holds}, and this takes {part.size / GIB:.2f}"


def _called(user: str) -> str:
    return f"key {user} of the fleet"


def _more(key: str) -> str:
    return f"have {key} in users: of the gateway's fleet.yaml raised"
