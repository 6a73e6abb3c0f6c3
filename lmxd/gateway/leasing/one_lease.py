"""One lease for all requests: that of a program which is run with it, and never learns that it moves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from lmxd.gateway.leasing.leases import Leases, LeaseWish
from lmxd.gateway.leasing.progress import RequestProgress
from lmxd.rpc.client import AsyncLease
from lmxd.rpc.messages import Granted
from lmxd.rpc.notifications import Moved, Notification


class OneLease(Leases):
    """The lease that every request has, which another connection of this process holds.

    Its instance has the requests of one client alone, and a growth carries one conversation. So a growth waits until
    the other requests have been answered, and those that come meanwhile wait for it.
    """

    def __init__(self, socket: Path, lease: Granted) -> None:
        super().__init__(socket, instances=1)
        self._present = _of(lease)
        self._unreachable = False
        self._growing = asyncio.Lock()
        self._asking = 0
        """Requests that are at the instance."""
        self._left = asyncio.Event()
        """One of them has been answered, or waits for a growth."""
        self._next = asyncio.Lock()
        self._taken = 0
        """Tokens that they may have of a cache which all slots share."""
        self._freed = asyncio.Event()

    @property
    def model(self) -> str:
        return self._present.model

    def moved(self, lease: Granted) -> None:
        """The lease is at another instance from now on."""
        if lease.instance != self._present.instance:
            self.connections.close(lease.lease)
            self.slots.followed(lease, self._present)
        self._present, self._unreachable = _of(lease), False

    def _told(self, method: str, params: dict[str, Any]) -> None:
        """After lmxd was started again, this may be the connection that holds the lease."""
        if method == Notification.MOVED:
            self.moved(Moved.model_validate(params).granted)

    @contextlib.asynccontextmanager
    async def lease(self, wish: LeaseWish, told: Callable[[RequestProgress], None]) -> AsyncIterator[AsyncLease]:
        async with self._growing:
            if self._unreachable:
                await self._look(wish.wait)
            self._asking += 1
        try:
            yield self._present
        finally:
            self._leave()

    @contextlib.asynccontextmanager
    async def within(self, lease: AsyncLease, tokens: int) -> AsyncIterator[None]:
        """The same, in turn: an engine ends the answers of all where it has no room for what they are together."""
        tokens = min(tokens, lease.ctx)
        async with self._next:
            while self._taken and self._taken + tokens > lease.ctx:
                self._freed.clear()
                await self._freed.wait()
            self._taken += tokens
        try:
            yield
        finally:
            self._taken -= tokens
            self._freed.set()

    async def _look(self, wait: float | None) -> None:
        """Ask lmxd where it is: it may have moved just now. LmxdError if it has ended.

        It is wherever it has a context at all: one that is on its way is waited for.
        """
        self.moved(await self.client.grow(self._present.lease, 1, carry=False, wait=wait))

    def unfit(self, lease: AsyncLease) -> None:
        self.connections.close(lease.lease)
        self._unreachable = True

    async def grow(
        self, lease: AsyncLease, ctx: int, slot: int | None, wait: float | None, told: Callable[[RequestProgress], None]
    ) -> AsyncLease:
        self._leave()
        try:
            async with self._growing:
                if self._present.ctx >= ctx:  # by the growth of another request, whose conversation went along
                    return self._present.model_copy(update={"slot": None})
                while self._asking:
                    self._left.clear()
                    await self._left.wait()
                slot = slot if lease.instance == self._present.instance else None
                self.moved(await super().grow(self._present, ctx, slot, wait, told))
                return self._present
        finally:
            self._asking += 1

    def _leave(self) -> None:
        self._asking -= 1
        self._left.set()


def _of(lease: Granted) -> AsyncLease:
    return AsyncLease.model_validate(dict(lease))
