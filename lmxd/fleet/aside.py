"""Work that blocks, in a thread that the end of the program does not wait for, as it would for asyncio's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

_FoundT = TypeVar("_FoundT")


async def aside(work: Callable[[], _FoundT]) -> _FoundT:
    """The value that ``work`` returns. Raises as it does.

    If this is cancelled ``work`` goes on, and nobody hears of it: for questions.
    """
    outcome: Future[_FoundT] = Future()
    outcome.set_running_or_notify_cancel()

    def do() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # as it comes: it is raised where this is awaited
            outcome.set_exception(error)

    Thread(target=do, daemon=True).start()
    return await asyncio.wrap_future(outcome)
