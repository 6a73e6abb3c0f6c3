"""Work that several callers want is done once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Final

from lmxd.rpc.framing import Encoded

_FRESH: Final = 1.0
"""Seconds for which a shared answer holds: files may change, which nobody tells."""


class Together:
    """Shares running work among its callers. A caller that is cancelled does not stop it."""

    def __init__(self) -> None:
        self._running: dict[Hashable, asyncio.Task[None]] = {}

    async def do(self, what: Hashable, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do ``work``, or wait for the same work if it is running."""
        task = self._running.get(what)
        if task is None:
            task = self._running[what] = asyncio.get_running_loop().create_task(work())
            task.add_done_callback(lambda _: self._running.pop(what))
        await asyncio.shield(task)


class SharedAnswer:
    """An answer that takes long to make: made once for all who ask, until what it depends on changes."""

    def __init__(
        self, make: Callable[[], Coroutine[Any, Any, Encoded]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._make = make
        self._clock = clock
        self._together = Together()
        self._made: tuple[Hashable, float, Encoded] | None = None
        """The last one, after what it depended on and the time at which its making began."""

    async def get(self, depends_on: Hashable) -> Encoded:
        """The answer for things as they are: ``depends_on`` is equal as long as they are the same."""
        made = self._made
        if made is not None and made[0] == depends_on and self._clock() - made[1] < _FRESH:
            return made[2]
        await self._together.do(depends_on, lambda: self._again(depends_on))
        assert self._made is not None
        return self._made[2]

    async def _again(self, depends_on: Hashable) -> None:
        begun = self._clock()
        self._made = depends_on, begun, await self._make()
