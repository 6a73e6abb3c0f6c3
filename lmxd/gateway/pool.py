"""Leases for requests: one request has one lease, which then serves the next; who finds none free stands in line.

A lease that nobody uses is given back after a while, and at once when anybody waits in lmxd's queue. As long as
somebody does, no lease passes from one request to the next: each is given back and asked for again, so that it is
the queue that decides whose turn it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, Final

from lmxd.errors import LmxdError
from lmxd.gateway.line import Ask, Held, Line, Standing, Waiter, Wish
from lmxd.rpc import books as b
from lmxd.rpc import notifications as n
from lmxd.rpc.client import AsyncClient

log = logging.getLogger(__name__)
_TICK: Final = 1.0
_RENEW: Final = 30.0
"""Seconds between signs of life for a lease in use, whose engine may not show that it is busy."""
_MOST: Final = 1024
"""Requests in line for one model."""
_ASKS: Final = 24
"""Requests to lmxd at once; a connection may have 32 calls in flight."""


class Pool:
    """``instances``: how many instances' slots a model may have at once; ``linger``: seconds that a free lease is
    kept. ``socket``: the daemon's.
    """

    def __init__(self, socket: Path, *, instances: int, linger: float) -> None:
        self.client = AsyncClient(socket, on_notification=self._notified)
        self._instances, self._linger = instances, linger
        self._lines: dict[Wish, Line] = {}
        self._contended = False
        self._asking = asyncio.Semaphore(_ASKS)
        self._ticking: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Pool:
        await self.client.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        """With the connection all leases end."""
        for task in (*self._tasks, *filter(None, (self._ticking,))):
            task.cancel()
        await self.client.__aexit__()

    async def model(self, name: str, lists: str) -> b.Model:
        """The one that a name or an alias means. LmxdError ``unknown_model``; ``lists``: where there is a list."""
        for found in (await self.client.models()).models:
            if name in (found.model, *found.aliases):
                return found
        raise LmxdError("unknown_model", f"there is no model {name!r}", f"{lists} lists them")

    @contextlib.asynccontextmanager
    async def lease(
        self, wish: Wish, told: Callable[[Standing], None], wait: float | None = None
    ) -> AsyncIterator[Held]:
        """A lease for one request. ``wait``: the most seconds in a queue, not counting the start of an instance.

        LmxdError: the daemon's, ``queue_full`` or ``wait_expired``. Mark it ``spent`` if its instance does not answer.
        """
        line = self._lines.setdefault(wish, Line())
        self._keep_ticking()
        held = line.take() or await self._in_line(wish, line, told, wait)
        begun = held.since = time.monotonic()
        try:
            yield held
        finally:
            line.served(time.monotonic() - begun)
            self._give(wish, line, held)

    async def _in_line(self, wish: Wish, line: Line, told: Callable[[Standing], None], wait: float | None) -> Held:
        if len(line.waiters) >= _MOST:
            raise LmxdError("queue_full", f"{_MOST} requests wait for {wish.model} already", "ask again later")
        loop = asyncio.get_running_loop()
        waiter = Waiter(wish, told, loop.create_future())
        line.join(waiter)
        self._advance(wish, line)
        line.tell()
        timer = None if wait is None else loop.call_later(wait, line.late, waiter)
        try:
            return await waiter.turn
        except asyncio.CancelledError:
            if waiter.turn.done() and not waiter.turn.cancelled() and not waiter.turn.exception():
                self._give(wish, line, waiter.turn.result())  # its turn came as its client went
            raise
        finally:
            if timer is not None:
                timer.cancel()
            for ask in line.leave(waiter):
                self._withdraw(ask)

    def _give(self, wish: Wish, line: Line, held: Held) -> None:
        """What a request is done with."""
        if held.ended:
            line.drop(held)
        elif held.spent or self._contended:
            self._release(line, held)
        else:
            line.offer(held, time.monotonic())
        self._advance(wish, line)

    def _release(self, line: Line, held: Held) -> None:
        line.drop(held)
        self._in_background(self._quietly(self.client.release(held.lease.lease)))

    def _advance(self, wish: Wish, line: Line) -> None:
        while line.wants_more:
            ask = Ask()
            line.asks.append(ask)
            self._in_background(self._ask(wish, line, ask))

    async def _ask(self, wish: Wish, line: Line, ask: Ask) -> None:
        try:
            async with self._asking:
                lease = await self.client.request(
                    wish.model, ctx=wish.ctx, on_progress=partial(self._progress, line, ask)
                )
        except LmxdError as error:
            line.asks.remove(ask)
            if ask.withdrawn:
                self._advance(wish, line)  # somebody else may have come meanwhile
            else:
                line.refused(error)
            return
        line.asks.remove(ask)
        line.limit = lease.instance_slots * self._instances
        now = time.monotonic()
        line.held[lease.lease] = held = Held(lease, now)
        line.offer(held, now)
        self._advance(wish, line)

    def _progress(self, line: Line, ask: Ask, progress: n.Progress) -> None:
        ask.progress = progress
        line.tell()
        if progress.position and not self._contended:
            self._contended = True
            self._give_back_free()
        if ask.withdrawn:
            self._withdraw(ask)

    def _withdraw(self, ask: Ask) -> None:
        """Nobody waits for it any longer. One that does not wait either cannot be taken back, and need not."""
        ask.withdrawn = True
        if ask.progress is not None:
            self._in_background(self._quietly(self.client.cancel(ask.progress.ticket)))

    def _give_back_free(self, older_than: float = 0.0) -> None:
        now = time.monotonic()
        for line in self._lines.values():
            for held in [x for x in line.free if now - x.since >= older_than]:
                self._release(line, held)

    def _notified(self, method: str, params: dict[str, Any]) -> None:
        """A lease ended, or is asked back: after the request that it serves now, if it serves one."""
        for line in self._lines.values():
            held = line.held.get(params.get("lease", ""))
            if held is None:
                continue
            if method == "lmxd.lease_ended":
                held.ended = True
                line.drop(held)
            elif method == "lmxd.yield":
                held.spent = params.get("within") is not None
                if held.spent and held in line.free:
                    self._release(line, held)

    def _keep_ticking(self) -> None:
        if self._ticking is None or self._ticking.done():
            self._ticking = asyncio.get_running_loop().create_task(self._tick())

    async def _tick(self) -> None:
        """As long as there is anything to look after."""
        while self._lines:
            await asyncio.sleep(_TICK)
            try:
                tickets = (await self.client.queue()).tickets
                self._contended = any(t.position > 0 for t in tickets)
                self._give_back_free(0.0 if self._contended else self._linger)
                await self._renew()
            except LmxdError as error:
                log.warning("lmxd: %s", error)
            self._lines = {wish: line for wish, line in self._lines.items() if not line.deserted}

    async def _renew(self) -> None:
        now = time.monotonic()
        for held in [h for line in self._lines.values() for h in line.held.values() if h not in line.free]:
            if now - held.since >= _RENEW:
                held.since = now
                await self._quietly(self.client.renew(held.lease.lease))

    async def _quietly(self, call: Coroutine[Any, Any, Any]) -> None:
        """What came too late does not matter."""
        with contextlib.suppress(LmxdError):
            await call

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
