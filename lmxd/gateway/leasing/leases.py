"""Leases for requests: each asks lmxd for its own, has it as long as it is answered, and gives it back."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from lmxd.errors import LmxdError
from lmxd.gateway.http.kept_connections import KeptConnections
from lmxd.gateway.leasing.abandoned import until_noticed
from lmxd.gateway.leasing.known_shelf import KnownShelf
from lmxd.gateway.leasing.progress import RequestProgress
from lmxd.gateway.leasing.slots import InstanceSlots
from lmxd.gateway.leasing.spare_leases import SpareLeases
from lmxd.gateway.leasing.stated import UNSTATED, Stated
from lmxd.rpc.client import AsyncClient, AsyncLease
from lmxd.rpc.notifications import ConversationPutBy, InstanceShrunk, Notification

_LOOK: Final = 5.0
_RENEW: Final = 30.0
"""Seconds between signs of life for a lease, whose engine may not show that it is busy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseWish:
    """The lease that a request wants.

    ``ctx``: the context, where the usual one is not enough, and ``least_ctx`` the one to be had where that never fits;
    ``user``: the key for which it is; ``wait``: the most seconds in the queue, not counting the start of an instance;
    ``stated``: what another gateway says of it; ``priority``: the class in the queue, by default the profile's.
    ``keep_alive``: whether it says how long the instance ``stays`` after it, in seconds; None: as long as its profile
    says. ``near``: the instance that has its conversation; ``apart``: those whose slots all have others that go on.
    ``bounded``: what is sent by it never takes more than ``ctx``, so that others may share a cache with it. ``shared``:
    what it has of one is given to others next.
    """

    model: str
    ctx: int | None = None
    least_ctx: int | None = None
    user: str | None = None
    wait: float | None = None
    stated: Stated = UNSTATED
    priority: int | None = None
    keep_alive: bool = False
    stays: float | None = None
    near: str | None = None
    apart: tuple[str, ...] = ()
    bounded: bool = False
    shared: bool = False

    @property
    def kind(self) -> Hashable:
        """Tells wishes apart that one lease cannot serve."""
        return self.model, self.ctx, self.least_ctx, self.user, self.priority, self.bounded


class Leases:
    """The leases of all requests at the gateway, renewed while they are in use.

    ``socket``: the daemon's. ``instances``: how many of a model may run at once for the requests here.
    """

    def __init__(self, socket: Path, *, instances: int) -> None:
        self.client = AsyncClient(socket, self._told)
        self._instances = instances
        self.renewed: dict[str, float] = {}
        """The time at which each was granted, or last renewed."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._keeper: asyncio.Task[None] | None = None
        self.connections = KeptConnections()
        self._spare = SpareLeases(self._let_go)
        self._abandoned: dict[str, tuple[AsyncLease, int | None]] = {}
        """Leases with an answer that nobody waited for to its end -> where they were then, and its slot, if known."""
        self.slots = InstanceSlots(several=instances > 1)
        self.shelf = KnownShelf(self.slots, self.client.shelve, self._in_background)

    async def __aenter__(self) -> Leases:
        await self.client.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connection: all leases end with it."""
        for task in self._tasks:
            task.cancel()
        await self.client.__aexit__()

    @contextlib.asynccontextmanager
    async def lease(self, wish: LeaseWish, told: Callable[[RequestProgress], None]) -> AsyncIterator[AsyncLease]:
        """One lease, or an LmxdError of the daemon's. If its task is cancelled, it leaves the queue.

        One that was used without an error is kept for a moment. One of a shared cache is had until its engine works on
        nothing of it any more.
        """
        lease = self._spare.take(wish.kind, wish.near, wish.apart) or await self._granted(wish, told)
        if self._keeper is None or self._keeper.done():
            self._keeper = self._in_background(self._keep())
        self.renewed[lease.lease] = time.monotonic()
        try:
            if wish.keep_alive:
                self._spare.ended(lease.lease)  # its word is for this request: the next has its own
                await self.keep_alive(wish)
            yield lease
        except BaseException:
            self._end(wish, lease)
            raise
        else:
            if lease.lease in self._abandoned:
                self._end(wish, lease)
            else:
                self._spare.put(wish.kind, lease)
        finally:
            del self.renewed[lease.lease]
            self._abandoned.pop(lease.lease, None)

    def abandon(self, lease: AsyncLease, slot: int | None) -> None:
        """Note that nobody waits for the answer to what was asked by a lease, which is in use."""
        self._abandoned[lease.lease] = lease, slot

    def _end(self, wish: LeaseWish, lease: AsyncLease) -> None:
        """Give back a lease, and what others share with it only when its engine is done."""
        left = self._abandoned.get(lease.lease)
        if left is None or not wish.shared:
            self._spare.end(lease)
            return
        self._spare.ended(lease.lease)
        self._in_background(self._end_later(*left))

    async def _end_later(self, lease: AsyncLease, slot: int | None) -> None:
        self.connections.close(lease.lease)
        try:
            await until_noticed(lease, slot, self.connections)
        finally:
            self._let_go(lease)

    async def _granted(self, wish: LeaseWish, told: Callable[[RequestProgress], None]) -> AsyncLease:
        """A lease from lmxd, for the context that is the least where the one that is wished for never fits."""
        self._spare.give_back()  # what is asked for next may be what they hold
        calls = self._spare.calls
        try:
            lease = await self._requested(wish, told)
        except LmxdError as error:
            if error.code != "never_fits" or wish.ctx == wish.least_ctx:
                raise
            lease = await self._requested(replace(wish, ctx=wish.least_ctx), told)
        self._spare.granted(lease, calls)
        return lease

    def _told(self, method: str, params: dict[str, Any]) -> None:
        """Heed what lmxd says of leases."""
        if method == Notification.WANTED:
            self._spare.wanted()
        elif method in (Notification.LEASE_ENDED, Notification.MOVED):
            self._forget(params["lease"])
        elif method == Notification.SHRUNK:
            self.slots.shrunk(InstanceShrunk.model_validate(params))
        elif method == Notification.PUT_BY:
            self.shelf.put_by(ConversationPutBy.model_validate(params))

    def _forget(self, lease: str) -> None:
        self._spare.ended(lease)
        self.connections.close(lease)

    def _let_go(self, lease: AsyncLease) -> None:
        self.connections.close(lease.lease)
        self.client.let_go(lease.lease)

    def unfit(self, lease: AsyncLease) -> None:
        """Use a lease for no other request: its instance does not answer."""
        self._forget(lease.lease)

    async def grow(
        self, lease: AsyncLease, ctx: int, slot: int | None, wait: float | None, told: Callable[[RequestProgress], None]
    ) -> AsyncLease:
        """The same lease with a context of at least so many tokens, for this request alone. LmxdError.

        ``slot``: that of its conversation; None if there is none. ``wait``: seconds in the queue.
        """
        self._forget(lease.lease)  # it is kept for no other request, and a connection leads to the instance before
        return await self.client.grow(
            lease.lease,
            ctx,
            slot=slot,
            apart=self.slots.lived_in(lease.model, ctx),
            carry=slot is not None,
            wait=wait,
            on_progress=lambda progress: told(RequestProgress.of(progress)),
        )

    async def widen(
        self,
        lease: AsyncLease,
        ctx: int,
        slot: int | None,
        told: Callable[[RequestProgress], None],
        *,
        wait: float = 0.0,
        deadline: float | None = None,
        apart: bool = False,
    ) -> AsyncLease:
        """The same lease with at least so many tokens of a cache that others share, for this request alone. LmxdError.

        ``slot`` and ``wait``: as for ``grow``. It stays where it is, if that has them; ``apart``: only where
        there is no room for a larger one. ``deadline``: seconds within which it is to have them, or not at all.
        """
        self._spare.give_back()  # they may be what it is to have
        grown = await self.client.grow(
            lease.lease,
            ctx,
            slot=slot,
            apart=[lease.instance] if apart else [],
            max_instances=self._instances,
            carry=slot is not None,
            wait=wait,
            deadline=deadline,
            on_progress=lambda progress: told(RequestProgress.of(progress)),
        )
        self._forget(lease.lease)
        return grown

    @contextlib.asynccontextmanager
    async def within(self, lease: AsyncLease, tokens: int) -> AsyncIterator[None]:
        """So many tokens of a lease's cache are one request's until the block ends. A lease has one request here."""
        yield

    def give_up(self, lease: AsyncLease) -> None:
        """Give back a lease before its request is answered, which goes on with another."""
        self._spare.end(lease)

    async def keep_alive(self, wish: LeaseWish) -> None:
        """Have the instances of a model stay as long as its client says. LmxdError."""
        await self.client.keep_alive(wish.model, seconds=wish.stays, user=wish.user)

    async def _requested(self, wish: LeaseWish, told: Callable[[RequestProgress], None]) -> AsyncLease:
        return await self.client.request(
            wish.model,
            ctx=wish.ctx,
            wait=wish.wait,
            waited=wish.stated.waited,
            used_elsewhere=wish.stated.used_elsewhere,
            weight=wish.stated.weight,
            max_instances=self._instances,
            user=wish.user,
            priority=wish.priority,
            reuse=True,
            near=wish.near,
            apart=list(wish.apart),
            bounded=wish.bounded,
            on_progress=lambda progress: told(RequestProgress.of(progress)),
        )

    async def _keep(self) -> None:
        """Renew leases as long as there are any: a gateway that nobody uses sleeps."""
        await asyncio.sleep(_LOOK)
        while self.renewed:
            self.renew(time.monotonic())
            await asyncio.sleep(_LOOK)

    def renew(self, now: float) -> None:
        """Renew the leases that were not renewed for a while."""
        for lease in [lease for lease, last in self.renewed.items() if now - last >= _RENEW]:
            self.renewed[lease] = now
            self._in_background(self.client.renew(lease))

    def _in_background(self, call: Coroutine[Any, Any, object]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(_quietly(call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _quietly(call: Coroutine[Any, Any, object]) -> None:
    """Await a call whose failure does not matter: it came too late."""
    with contextlib.suppress(LmxdError):
        await call
