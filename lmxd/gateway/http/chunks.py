"""Bodies that are sent in chunks (RFC 9112, 7.1), read as strictly as they are to be written. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

MAX_HEAD: Final = 64 * 1024
"""Bytes of a response's head, and of its trailers: far more than any server sends, and little enough to keep."""
_MAX_LINE: Final = 4 * 1024
"""Bytes of the line before a chunk: a size, and extensions that nobody uses."""
_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
FIELD: Final = re.compile(rb"(%b):([\t\x20-\x7e\x80-\xff]*)" % _TOKEN)
"""A line of a head: no space before the colon, none at its beginning (obs-fold), no control characters."""
_QUOTED: Final = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,8})(?:;%b(?:=(?:%b|%b))?)*" % (_TOKEN, _TOKEN, _QUOTED))
"""Eight digits are 4 GiB: no engine has that much to say at once, and no reader's number overflows."""
_END: Final = b"\r\n"
_IN_NO_TRAILER: Final = frozenset((b"content-length", b"transfer-encoding", b"host", b"set-cookie", b"connection"))
"""RFC 9110, 6.5.1: what must be known before the body."""


class BadAnswer(ValueError):
    """The error for bytes that are no HTTP/1.1 response, or might be taken for two."""


class Chunks:
    """Finds the end of a chunked body.

    Sizes are read, data is stepped over (or given to ``keep``), trailers end with an empty line.
    """

    def __init__(self, keep: Callable[[bytes], None] | None = None) -> None:
        self.done = False
        self._keep = keep
        self._left = 0
        self._line = b""
        self._trailers = 0
        self._next: Callable[[bytes], None] = self._size

    @property
    def between(self) -> bool:
        """The last chunk that has begun has come to its end."""
        return not self._left and not self._line and self._next == self._size

    def feed(self, data: bytes) -> int:
        """The number of the bytes that belong to the body. Raises BadAnswer."""
        at = 0
        while at < len(data) and not self.done:
            if self._left:
                step = min(self._left, len(data) - at)
                if self._keep is not None:
                    self._keep(data[at : at + step])
                self._left -= step
                at += step
                continue
            end = data.find(b"\n", at)
            self._line += data[at : end + 1 if end >= 0 else None]
            if len(self._line) > _MAX_LINE:
                raise BadAnswer(f"a line between its chunks is longer than {_MAX_LINE} bytes")
            if end < 0:
                return len(data)
            line, self._line, at = self._line, b"", end + 1
            if not line.endswith(_END):
                raise BadAnswer("a line between its chunks ends with a bare line feed")
            self._next(line[:-2])
        return at

    def _size(self, line: bytes) -> None:
        match = _SIZE.fullmatch(line)
        if match is None:
            raise BadAnswer(f"a chunk's size is {line[:60]!r}")
        self._left = int(match[1], 16)
        self._next = self._after if self._left else self._trailer

    def _after(self, line: bytes) -> None:
        if line:
            raise BadAnswer(f"a chunk is longer than its size: {line[:60]!r}")
        self._next = self._size

    def _trailer(self, line: bytes) -> None:
        if not line:
            self.done = True
            return
        self._trailers += len(line)
        match = FIELD.fullmatch(line)
        if match is None or match[1].lower() in _IN_NO_TRAILER or self._trailers > MAX_HEAD:
            raise BadAnswer(f"a trailer is {line[:60]!r}")


def chunk(data: bytes) -> bytes:
    """One chunk of a body that is sent in chunks."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK: Final = b"0\r\n\r\n"
