"""Work that several callers want at the same time is done once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any


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
