"""Answers that are read rather than relayed: whole, or event by event."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from lmxd.errors import LmxdError
from lmxd.gateway.http1 import Chunks, Head, unchunked
from lmxd.gateway.upstream import Exchange

_DATA: Final = b"data:"
_DONE: Final = b"[DONE]"


async def collected(answer: Exchange, head: Head) -> bytes:
    """The whole body. LmxdError ``stopped`` if it broke off."""
    pieces: list[bytes] = []
    if not await answer.body(pieces.append):
        raise _broken_off()
    body = b"".join(pieces)
    return unchunked(body) if head.chunked else body


async def events(answer: Exchange, head: Head) -> AsyncIterator[dict[str, Any]]:
    """The data of an event stream. LmxdError ``stopped`` if it broke off, or as the stream says."""
    pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
    to: Callable[[bytes], object] = Chunks(pieces.put_nowait).feed if head.chunked else pieces.put_nowait
    reading = asyncio.create_task(answer.body(to))
    reading.add_done_callback(lambda _: pieces.put_nowait(None))
    buffer = b""
    try:
        while (piece := await pieces.get()) is not None:
            *lines, buffer = (buffer + piece).split(b"\n")
            for line in lines:
                if line.startswith(_DATA) and (data := line.removeprefix(_DATA).strip()) != _DONE:
                    yield _event(data)
        if not await reading:
            raise _broken_off()
    finally:
        reading.cancel()


def _event(data: bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        found = json.loads(data)
        if isinstance(found, dict) and "error" not in found:
            return found
    raise LmxdError("stopped", f"the instance says: {data.decode(errors='replace')}", "ask again")


def _broken_off() -> LmxdError:
    return LmxdError("stopped", "the instance broke off its answer", "lmxctl logs may say why")
