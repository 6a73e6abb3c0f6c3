"""HTTP/1.1 responses as bytes: the head read, the end of the body found, everything else left as it came. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

MAX_HEAD: Final = 64 * 1024
"""Bytes of a response's head: far more than any server sends, and little enough to keep."""
_HOP_BY_HOP: Final = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"upgrade"))
"""RFC 9110, 7.6.1: about one connection, not about the answer. Transfer-Encoding is passed on, for so is the body."""
_END: Final = b"\r\n"
_BODILESS: Final = (204, 304)
"""Statuses of responses without a body (RFC 9112, 6.3)."""


class BadAnswer(ValueError):
    """The error for bytes that are no HTTP/1.1 response."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """The head of a response.

    ``length`` is None without a Content-Length; ``raw`` are the bytes for the client, ended by an empty line.
    """

    status: int
    length: int | None
    chunked: bool
    raw: bytes

    @property
    def until_closed(self) -> bool:
        """The body's end is that of the connection."""
        return not self.chunked and self.length is None and self.status not in _BODILESS


def read_head(data: bytes) -> tuple[Head, bytes] | None:
    """(the head, what follows it) of a response; None if more must come first. Raises BadAnswer."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        if len(data) > MAX_HEAD:
            raise BadAnswer(f"the head is longer than {MAX_HEAD} bytes")
        return None
    first, *lines = data[:end].split(b"\r\n")
    version, _, rest = first.partition(b" ")
    status = rest[:3]
    if not version.startswith(b"HTTP/1.") or not status.isdigit():
        raise BadAnswer(f"it begins with {first[:60]!r}")
    length, chunked, kept = None, False, [b"HTTP/1.1 " + rest]
    for line in lines:
        name, _, value = line.partition(b":")
        match name.strip().lower():
            case b"content-length":
                if not value.strip().isdigit():
                    raise BadAnswer(f"Content-Length is {value[:60]!r}")
                length = int(value)
            case b"transfer-encoding":
                chunked = value.strip().lower().endswith(b"chunked")
            case hop if hop in _HOP_BY_HOP:
                continue
        kept.append(line)
    head = Head(
        status=int(status), length=None if chunked else length, chunked=chunked, raw=b"\r\n".join((*kept, b"", b""))
    )
    return head, data[end + 4 :]


class Body:
    """Finds the end of a response's body whose bytes pass by."""

    def __init__(self, head: Head, *, bodiless: bool = False) -> None:
        """``bodiless``: it answers a HEAD."""
        self.done = bodiless or head.status in _BODILESS or head.length == 0
        self._left = head.length
        self._chunks = Chunks() if head.chunked else None

    def feed(self, data: bytes) -> bytes:
        """The bytes of ``data`` that belong to the body. Raises BadAnswer."""
        if self.done:
            return b""
        if self._chunks is not None:
            taken = self._chunks.feed(data)
            self.done = self._chunks.done
            return data if taken == len(data) else data[:taken]
        if self._left is None:
            return data
        data = data[: self._left]
        self._left -= len(data)
        self.done = not self._left
        return data


class Chunks:
    """Finds the end of a chunked body.

    RFC 9112, 7.1: sizes are read, data is stepped over (or given to ``keep``), trailers end with an empty line.
    """

    def __init__(self, keep: Callable[[bytes], None] | None = None) -> None:
        self.done = False
        self._keep = keep
        self._skip = 0
        self._line = b""
        self._trailer = False

    def feed(self, data: bytes) -> int:
        """The number of the bytes that belong to the body. Raises BadAnswer."""
        at = 0
        while at < len(data) and not self.done:
            if self._skip:
                step = min(self._skip, len(data) - at)
                if self._keep is not None and (inside := data[at : at + min(step, self._skip - len(_END))]):
                    self._keep(inside)
                self._skip -= step
                at += step
                continue
            end = data.find(b"\n", at)
            if end < 0:
                self._line += data[at:]
                if len(self._line) > MAX_HEAD:
                    raise BadAnswer("a chunk's size has no end")
                return len(data)
            line = (self._line + data[at:end]).strip()
            self._line, at = b"", end + 1
            self._take(line)
        return at

    def _take(self, line: bytes) -> None:
        if self._trailer:
            self.done = not line
            return
        try:
            size = int(line.partition(b";")[0].strip(), 16)
        except ValueError:
            raise BadAnswer(f"a chunk's size is {line[:60]!r}") from None
        if size < 0:
            raise BadAnswer(f"a chunk's size is {line[:60]!r}")
        if size:
            self._skip = size + len(_END)
        else:
            self._trailer = True


def chunk(data: bytes) -> bytes:
    """One chunk of a body that is sent in chunks."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def unchunked(body: bytes) -> bytes:
    """The data of a whole body that was sent in chunks. Raises BadAnswer."""
    found: list[bytes] = []
    Chunks(found.append).feed(body)
    return b"".join(found)


LAST_CHUNK: Final = b"0\r\n\r\n"
