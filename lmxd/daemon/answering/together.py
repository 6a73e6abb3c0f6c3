"""Work that several want at the same time is done once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any


class Together:
    """Who waits no longer leaves the work to the others; it is never cut short."""

    def __init__(self) -> None:
        self._running: dict[Hashable, asyncio.Task[None]] = {}

    async def do(self, what: Hashable, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Returns when it is done, by whoever began it."""
        task = self._running.get(what)
        if task is None:
            task = self._running[what] = asyncio.get_running_loop().create_task(work())
            task.add_done_callback(lambda _: self._running.pop(what))
        await asyncio.shield(task)
