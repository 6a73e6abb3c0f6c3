"""A streamed answer that goes on where its context is full: what its instance says last is held back meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from lmxd.errors import LmxdError
from lmxd.gateway.answers.seams import Differs, Seam
from lmxd.gateway.answers.stream_events import Lines
from lmxd.gateway.answers.written import Written
from lmxd.gateway.http.chunks import LAST_CHUNK, Chunks, chunk
from lmxd.gateway.http.edges import Edges
from lmxd.gateway.http.http1 import Head
from lmxd.gateway.http.relayed_answer import RelayedAnswer
from lmxd.gateway.http.upstream import BROKEN_OFF, CLIENT_LEFT
from lmxd.gateway.leasing.progress import RequestProgress

_DATA: Final = b"data:"
_NAME: Final = b"event:"
_LIFE: Final = 10.0
"""Seconds between signs of life: clients and proxies give up on what is silent."""


class Remainder(NamedTuple):
    """The rest of an answer, and how it follows."""

    answer: RelayedAnswer
    seam: Seam


Onward = Callable[[Written, Callable[[RequestProgress], None]], Awaitable[Remainder | None]]
"""Finds the rest of an answer, and says meanwhile how that stands. None: it is over."""


class WalledAnswer:
    """A stream of one instance, and of another behind it. ``onward``: where it goes on.

    Its body is sent in chunks, as that of the first is.
    """

    def __init__(self, first: RelayedAnswer, onward: Onward) -> None:
        self._part = first
        self._onward = onward
        self.edges = Edges()
        self.renamed = first.renamed
        self.between_chunks = True
        self._written = Written()
        self._lines = Lines()
        self._held: list[bytes] = []
        """The lines of the end of the first part."""
        self._name = b""
        """The line with the name of an event, until it is known what becomes of that."""
        self._seam: Seam | None = None
        self._dropped = False
        """The last line was not told, nor is the empty one behind it."""
        self._differs = False
        self._to: Callable[[bytes], object] = lambda _: None
        self._whole = False
        self._paused = False
        self._left = False
        self._loop = asyncio.get_running_loop()
        self._standing, self._stood_at = RequestProgress(), self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    def hand_to(self, to: Callable[[bytes], object]) -> None:
        self._to = to
        self._part.hand_to(Chunks(self._take).feed)

    async def body(self, to: Callable[[bytes], object]) -> bool:
        self.hand_to(to)
        return await self.ended()

    async def ended(self) -> bool:
        if not await self._part.ended() or self._left:
            return False
        try:
            self._whole = await self._gone_on()
        finally:
            self._quiet()
        if self._whole:
            self._to(LAST_CHUNK)
        return self._whole

    async def _gone_on(self) -> bool:
        """Have the rest of the answer told, if there is any; whether that came to its end."""
        self._remind_later()
        rest = await self._onward(self._written, self._hear) if self._held else None
        if rest is None:
            self._tell(b"".join(self._held) + self._name + self._lines.rest)
            return True
        self._part, self._seam, self._lines, self._name = rest.answer, rest.seam, Lines(), b""
        if self._left:
            rest.answer.close()
        if self._paused:
            rest.answer.pause()
        rest.answer.hand_to(Chunks(self._take_rest).feed)
        if await rest.answer.ended():
            self._tell(self._name + self._lines.rest)
            return True
        if self._differs:
            self._tell(b"".join(self._held))
        return self._differs

    def _take(self, data: bytes) -> None:
        """Tell the lines of the first part, but those from which on it might be at its wall."""
        told = bytearray()
        for line in self._lines.feed(data):
            if line.startswith(_NAME):
                self._name = line + b"\n"
                continue
            if line.startswith(_DATA):
                self._written.take(line.removeprefix(_DATA).strip())
            self._held.append(self._name + line + b"\n")
            self._name = b""
            if not (self._written.ended or self._written.closed):
                told += b"".join(self._held)
                self._held = []
        self._tell(bytes(told))

    def _take_rest(self, data: bytes) -> None:
        told = bytearray()
        for line in self._lines.feed(data):
            told += self._of_rest(line)
        self._tell(bytes(told))
        if self._differs:
            self._part.close()

    def _of_rest(self, line: bytes) -> bytes:
        """A line of the rest as it is told."""
        if self._differs or self._seam is None or (self._dropped and not line):
            return b""
        self._dropped = False
        if line.startswith(_NAME):
            self._name = line + b"\n"
            return b""
        if not line.startswith(_DATA):
            return line + b"\n"
        name, self._name = self._name, b""
        try:
            event = self._seam.event(line.removeprefix(_DATA).strip())
        except Differs:
            self._differs = True
            return b""
        self._dropped = event is None
        return b"" if event is None else name + _DATA + b" " + event + b"\n"

    def _tell(self, data: bytes) -> None:
        if data:
            self._quiet()
            self.edges.keep(data)
            self._to(chunk(data))

    # signs of life

    def _hear(self, standing: RequestProgress) -> None:
        changed, self._standing = str(standing) != str(self._standing), standing
        self._stood_at = self._loop.time()
        if changed:
            self._comment()

    def _comment(self) -> None:
        standing = self._standing.after(self._loop.time() - self._stood_at)
        self._to(chunk(f": {standing}\n\n".encode()))

    def _remind_later(self) -> None:
        self._timer = self._loop.call_later(_LIFE, self._remind)

    def _remind(self) -> None:
        self._comment()
        self._remind_later()

    def _quiet(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    # as its first part

    def pause(self) -> None:
        self._paused = True
        self._part.pause()

    def resume(self) -> None:
        self._paused = False
        self._part.resume()

    def broken_off(self) -> LmxdError:
        return self._part.broken_off()

    def outcome(self, head: Head) -> int:
        if self._left:
            return CLIENT_LEFT
        return head.status if self._whole else BROKEN_OFF

    def close(self) -> None:
        self._left = self._left or not self._whole
        self._part.close()
