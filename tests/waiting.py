"""How tests wait: for something that comes about, never for time to pass."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

PAUSE = 0.01
GENEROUS = 100.0
"""Seconds for what takes a moment. On a machine with other work that is far longer; where it is not, nobody waits."""


def comes_about(holds: Callable[[], Any], seconds: float) -> bool:
    """Return as soon as something holds; False if it does not in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(PAUSE)
    return True


def wait_until(holds: Callable[[], Any], seconds: float = GENEROUS) -> float:
    """The seconds until something held; fails if it does not in time."""
    begun = time.monotonic()
    assert comes_about(holds, seconds), "it did not come about in time"
    return time.monotonic() - begun


async def until(holds: Callable[[], Any], seconds: float = GENEROUS, seen: Callable[[], object] = str) -> None:
    """The same on a loop that has other work. ``holds`` may be a coroutine function; ``seen``: what is said if not."""
    deadline = time.monotonic() + seconds
    while True:
        found = holds()
        if await found if isinstance(found, Awaitable) else found:
            return
        assert time.monotonic() < deadline, f"it did not come about in time {seen()}"
        await asyncio.sleep(PAUSE)


async def turns(count: int) -> None:
    """Let the loop's other tasks run so many times."""
    for _ in range(count):
        await asyncio.sleep(0)
