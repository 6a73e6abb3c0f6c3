"""Answers that are read rather than relayed: whole, or event by event."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

from lmxd.errors import LmxdError
from lmxd.gateway.answers.parts import Chunk, understood
from lmxd.gateway.http.chunks import BadAnswer, Chunks
from lmxd.gateway.http.http1 import Head
from lmxd.gateway.http.relayed_answer import RelayedAnswer

_DATA: Final = b"data:"
_DONE: Final = b"[DONE]"
_MAX_WHOLE: Final = 64 * 2**20
"""Bytes of an answer that is read whole: the vectors of some thousand texts."""
_MAX_EVENT: Final = 2**20
"""Bytes of one event."""
_MAX_UNREAD: Final = 64
"""Pieces of a stream that wait to be read, beyond which the instance waits, too."""
_AT_A_TIME: Final = 256
"""Pieces and events of one answer after which others have their turn."""


def _to(head: Head, keep: Callable[[bytes], None]) -> Callable[[bytes], object]:
    """Has the data of a body kept, without the sizes of its chunks."""
    return Chunks(keep).feed if head.chunked else keep


async def collected(answer: RelayedAnswer, head: Head, most: int = _MAX_WHOLE) -> bytes:
    """The whole body. LmxdError if it broke off, or is longer than ``most`` bytes."""
    whole = bytearray()

    def keep(data: bytes) -> None:
        whole.extend(data)
        if len(whole) > most:
            raise BadAnswer(f"it is longer than {most} bytes")

    if not await answer.body(_to(head, keep)):
        raise answer.broken_off()
    return bytes(whole)


async def events(answer: RelayedAnswer, head: Head) -> AsyncIterator[Chunk]:
    """The data of an event stream. LmxdError if it broke off, or ``stopped`` as the stream says."""
    pieces: asyncio.Queue[bytes | None] = asyncio.Queue()

    def keep(data: bytes) -> None:
        pieces.put_nowait(data)
        if pieces.qsize() > _MAX_UNREAD:
            answer.pause()

    reading = asyncio.create_task(answer.body(_to(head, keep)))
    reading.add_done_callback(lambda _: pieces.put_nowait(None))
    buffer, count = bytearray(), 0
    try:
        while (piece := await pieces.get()) is not None:
            if pieces.empty():
                answer.resume()
            buffer += piece
            lines: list[bytes] = []
            if b"\n" in piece:
                *lines, rest = bytes(buffer).split(b"\n")
                buffer = bytearray(rest)
            for line in (b"", *lines):
                count += 1
                if count % _AT_A_TIME == 0:
                    await asyncio.sleep(0)
                if line.startswith(_DATA) and (data := line.removeprefix(_DATA).strip()) != _DONE:
                    yield _event(data)
            if len(buffer) > _MAX_EVENT:
                raise LmxdError("bad_answer", f"an event is longer than {_MAX_EVENT} bytes", "see to the engine")
        if not await reading:
            raise answer.broken_off()
    finally:
        reading.cancel()


def _event(data: bytes) -> Chunk:
    found = understood(data, Chunk)
    if bytes(found.error) not in (b"", b"null"):
        raise LmxdError("stopped", f"the instance says: {data[:2000].decode(errors='replace')}", "ask again")
    return found
