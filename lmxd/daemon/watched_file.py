"""A file that is watched: told of when its content is another, however it was replaced."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

_LOOK: Final = 1.0
"""Seconds between two looks. A change counts when two looks in a row see the same: editors write in several steps."""
_LARGEST: Final = 16 * 2**20
"""Bytes that are compared: more than any configuration may have."""


async def watched(
    path: Path, known: bytes | None, changed: Callable[[], Awaitable[None]], every: float = _LOOK
) -> None:
    """Call ``changed`` each time that the file has come to hold something else. It never ends by itself.

    ``known``: its content as it was taken in last. A file that is gone for a moment, or that cannot be read, is waited
    for: its last content counts. Its directory may be a link that is turned (as Kubernetes' are).
    """
    before = known
    while True:
        await asyncio.sleep(every)
        seen = await asyncio.to_thread(content, path)
        if seen is not None and seen == before and seen != known:
            known = seen
            await changed()
        before = seen


def content(path: Path) -> bytes | None:
    """A digest of what a file holds; None if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.sha256(file.read(_LARGEST)).digest()
    except OSError:
        return None
