"""Those who want one model, in the order in which they came, and the leases that serve them one after the other."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from lmxd.errors import LmxdError
from lmxd.rpc import notifications as n
from lmxd.rpc.client import AsyncLease

_SMOOTHING: Final = 0.2


@dataclass(frozen=True, slots=True)
class Wish:
    """A model, and the context where the usual one is not enough."""

    model: str
    ctx: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """Where a request stands: its place from 1, seconds until its turn if known, and the instances it waits for.

    ``asked``: lmxd has not said yet whether it must wait. ``served``: it has its lease.
    """

    state: Literal["asked", "queued", "starting", "served"] = "asked"
    position: int = 1
    eta: float | None = None
    instances: tuple[str, ...] = ()

    def __str__(self) -> str:
        words = [self.state, f"position={self.position}"]
        words += [] if self.eta is None else [f"eta={self.eta:.0f}"]
        words += [f"instances={','.join(self.instances)}"] if self.instances else []
        return " ".join(words)


@dataclass(slots=True, eq=False)
class Held:
    """A lease, and since when it is free, in use or renewed.

    ``spent``: it serves nobody after this request. ``ended``: it is none any longer.
    """

    lease: AsyncLease
    since: float
    spent: bool = False
    ended: bool = False


@dataclass(slots=True, eq=False)
class Waiter:
    """One request in line. ``told`` is called whenever it stands elsewhere; ``late``: it has waited long enough."""

    wish: Wish
    told: Callable[[Standing], None]
    turn: asyncio.Future[Held]
    standing: Standing = field(default_factory=Standing)
    late: bool = False

    def stands(self, standing: Standing) -> None:
        if standing != self.standing:
            self.standing = standing
            self.told(standing)
        if self.late and standing.state == "queued" and not self.turn.done():
            self.turn.set_exception(_expired(self.wish, standing))


@dataclass(slots=True, eq=False)
class Ask:
    """A request to lmxd on behalf of the line, and what lmxd last said of it."""

    progress: n.Progress | None = None
    withdrawn: bool = False


class Line:
    """``limit``: the most leases at once, known with the first. No I/O."""

    def __init__(self) -> None:
        self.limit = 1
        self.held: dict[str, Held] = {}
        self.free: deque[Held] = deque()
        self.waiters: deque[Waiter] = deque()
        self.asks: list[Ask] = []
        self._usual: float | None = None

    @property
    def deserted(self) -> bool:
        return not (self.held or self.waiters or self.asks)

    @property
    def standing_asks(self) -> list[Ask]:
        """Those on behalf of the first in line, the second, and so on."""
        return [ask for ask in self.asks if not ask.withdrawn]

    @property
    def wants_more(self) -> bool:
        """Whether to ask for another lease."""
        return len(self.standing_asks) < len(self.waiters) and len(self.held) + len(self.asks) < self.limit

    def take(self) -> Held | None:
        """A free lease, for one who need not stand in line."""
        return self.free.popleft() if self.free and not self.waiters else None

    def join(self, waiter: Waiter) -> None:
        self.waiters.append(waiter)

    def leave(self, waiter: Waiter) -> list[Ask]:
        """The asks that nobody is left to have made: they are to be withdrawn."""
        if waiter in self.waiters:
            self.waiters.remove(waiter)
            self.tell()
        return self.standing_asks[len(self.waiters) :]

    def late(self, waiter: Waiter) -> None:
        """It has waited long enough; but one whose instance is being started is not turned away."""
        waiter.late = True
        self.tell()

    def offer(self, held: Held, now: float) -> None:
        """To the first in line; free if there is none."""
        while self.waiters:
            first = self.waiters.popleft()
            if not first.turn.done():
                first.turn.set_result(held)
                self.tell()
                return
        held.since = now
        self.free.append(held)

    def drop(self, held: Held) -> None:
        self.held.pop(held.lease.lease, None)
        if held in self.free:
            self.free.remove(held)

    def refused(self, error: LmxdError) -> None:
        """Nothing more is coming: unless a lease is still in use, there is nothing to wait for."""
        if self.held or self.asks:
            return
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.turn.done():
                waiter.turn.set_exception(error)

    def served(self, seconds: float) -> None:
        """How long a request had a lease, for what is expected of the next."""
        self._usual = seconds if self._usual is None else self._usual + _SMOOTHING * (seconds - self._usual)

    def tell(self) -> None:
        """Everybody in line where they stand."""
        asks = self.standing_asks
        for number, waiter in enumerate(self.waiters):
            waiter.stands(self._standing(number, asks))

    def _standing(self, number: int, asks: list[Ask]) -> Standing:
        if number < len(asks):
            asked = asks[number].progress
            if asked is None:
                return Standing(position=number + 1)
            return Standing(
                state=asked.state,
                position=number + max(1, asked.position),
                eta=asked.eta,
                instances=(asked.instance,) if asked.instance else tuple(asked.waits_for),
            )
        busy = tuple(sorted({held.lease.instance for held in self.held.values()}))
        eta = None
        if self.held and self._usual is not None:
            eta = self._usual * (1 + (number - len(asks)) // len(self.held))
        return Standing(state="queued", position=number + 1, eta=eta, instances=busy)


def _expired(wish: Wish, standing: Standing) -> LmxdError:
    return LmxdError(
        "wait_expired",
        f"{wish.model} was not to be had in time: {standing}",
        "ask again later, or let it wait longer (Prefer: wait=SECONDS)",
        {} if standing.eta is None else {"retry_in": standing.eta},
    )
