"""A pause that ends early when something happens."""

from __future__ import annotations

import asyncio
from contextlib import suppress


async def pause(event: asyncio.Event, seconds: float | None) -> None:
    """Wait until an event is set, for so long at most; None: for as long as it takes.

    Not by wait_for, which in Python 3.11 may drop a cancellation that comes with the event.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
