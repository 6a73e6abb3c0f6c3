"""HTTP/1.1 responses as bytes: the head read, the end of the body found, everything else left as it came. Pure.

An engine may be anything, or taken over. What two readers could take for two different things is no answer here
(RFC 9112, 11.1 and 11.2), and an answer says nothing that only the gateway may say to a browser.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from lmxd.gateway.http.chunks import FIELD, MAX_HEAD, BadAnswer, Chunks

_FIRST: Final = re.compile(rb"HTTP/1\.([01]) (([2-5]\d\d)(?: [\t\x20-\x7e\x80-\xff]*)?)")
"""The first line. An answer that is only provisional (1xx) was not asked for, and is none."""
_DIGITS: Final = re.compile(rb"\d{1,15}")
_FRAMING: Final = frozenset((b"content-length", b"transfer-encoding"))
_OF_AN_ENGINE: Final = _FRAMING.union(
    b"content-type content-encoding content-disposition content-language retry-after date x-request-id".split()
)
"""Headers that are about the answer alone. By others it would speak for the site of the dashboard, or to a proxy."""
_OF_AN_ENGINE_TOO: Final = (b"openai-", b"x-ratelimit-")
"""Beginnings of further ones."""
_GUARDED: Final = (
    b"Content-Security-Policy: sandbox",
    b"X-Content-Type-Options: nosniff",
    b"Cache-Control: no-store",
)
"""An engine's answer is no page of ours: shown in a browser, it has no scripts, and not the dashboard's key. Nor has
another client it from a proxy's cache."""
_EVENTS: Final = b"text/event-stream"
_JSON: Final = b"application/json"
_STREAMED: Final = (_EVENTS, b"application/x-ndjson")
"""Types of answers that are read as they come."""
_UNBUFFERED: Final = b"X-Accel-Buffering: no"
"""nginx collects some kilobytes of an answer before it passes them on, unless it is told this."""
_END: Final = b"\r\n"
_BODILESS: Final = (204, 304)
"""Statuses of responses without a body (RFC 9112, 6.3)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """The head of a response.

    ``length`` is None without a Content-Length; ``lines`` are those for the client. ``lasting``: its connection stays
    open for another request.
    """

    status: int
    length: int | None
    chunked: bool
    lines: tuple[bytes, ...]
    lasting: bool = False

    def raw(self, more: bytes = b"", *, chunks: bool = True) -> bytes:
        """The bytes for the client, with further lines, ended by an empty line.

        ``chunks``: False for a client of HTTP/1.0, whose body ends with its connection.
        """
        kept = self.lines
        if not chunks:
            kept = (*(x for x in kept if not x.lower().startswith(b"transfer-encoding:")), b"Connection: close")
        return _END.join((*kept, more + _END))

    def of_length(self, length: int) -> Head:
        """The head of another body, which is sent whole."""
        kept = (line for line in self.lines if line.lower().partition(b":")[0] not in _FRAMING)
        lines = (*kept, b"Content-Length: %d" % length)
        return replace(self, length=length, chunked=False, lines=lines)

    @property
    def is_events(self) -> bool:
        """The body is a stream of events."""
        return self._is_of(_EVENTS)

    @property
    def is_json(self) -> bool:
        """The body is one value of JSON."""
        return self._is_of(_JSON)

    def _is_of(self, kind: bytes) -> bool:
        fields = (line.lower().partition(b":") for line in self.lines)
        return any(name == b"content-type" and value.strip().startswith(kind) for name, _, value in fields)

    @property
    def until_closed(self) -> bool:
        """The body's end is that of the connection."""
        return not self.chunked and self.length is None and self.status not in _BODILESS


def read_head(data: bytes) -> tuple[Head, bytes] | None:
    """(the head, what follows it) of a response; None if more must come first. Raises BadAnswer."""
    end = data.find(b"\r\n\r\n")
    if (len(data) if end < 0 else end) > MAX_HEAD:
        raise BadAnswer(f"the head is longer than {MAX_HEAD} bytes")
    first, *found = data[: end if end >= 0 else None].split(_END)
    if end < 0:
        if b"\n" in first or any(b"\n" in line for line in found):
            raise BadAnswer("a line of the head ends with a bare line feed")
        return None
    match = _FIRST.fullmatch(first)
    if match is None:
        raise BadAnswer(f"it begins with {first[:60]!r}")
    status, fields = int(match[3]), [_field(line) for line in found]
    length, chunked = _framing(fields)
    if chunked and (match[1] == b"0" or status == 204):
        raise BadAnswer(f"it is sent in chunks, but begins with {first[:60]!r}")
    kept = _kept(fields, without={b"content-length"} if status == 204 else set())
    streamed = any(name == b"content-type" and value.lower().startswith(_STREAMED) for name, value, _ in fields)
    lines = (b"HTTP/1.1 " + match[2], *kept, *_GUARDED, *((_UNBUFFERED,) if streamed else ()))
    ends = any(name == b"connection" and value.lower() != b"keep-alive" for name, value, _ in fields)
    lasting = match[1] == b"1" and not ends and status < 300  # who refuses may not have read all of the request
    return Head(status=status, length=length, chunked=chunked, lines=lines, lasting=lasting), data[end + 4 :]


def _field(line: bytes) -> tuple[bytes, bytes, bytes]:
    """(the name in lower case, the value, the whole line). Raises BadAnswer."""
    match = FIELD.fullmatch(line)
    if match is None:
        raise BadAnswer(f"a header is {line[:60]!r}")
    return match[1].lower(), match[2].strip(b" \t"), line


def _framing(fields: list[tuple[bytes, bytes, bytes]]) -> tuple[int | None, bool]:
    """(the Content-Length, whether it is sent in chunks). Raises BadAnswer unless one thing is said, and once."""
    said = [(name, value) for name, value, _ in fields if name in _FRAMING]
    match said:
        case []:
            return None, False
        case [(b"content-length", value)] if _DIGITS.fullmatch(value):
            return int(value), False
        case [(b"transfer-encoding", value)] if value.lower() == b"chunked":
            return None, True
    raise BadAnswer(f"its length is said to be {b', '.join(b': '.join(x) for x in said)[:120]!r}")


def _kept(fields: list[tuple[bytes, bytes, bytes]], without: set[bytes]) -> list[bytes]:
    """The lines that go on to the client. Raises BadAnswer if its length were about the connection alone."""
    named = {
        word.strip(b" \t").lower() for name, value, _ in fields if name == b"connection" for word in value.split(b",")
    }
    if named & _FRAMING:
        raise BadAnswer("its length is said to be about the connection alone")
    return [
        line
        for name, _, line in fields
        if (name in _OF_AN_ENGINE or name.startswith(_OF_AN_ENGINE_TOO)) and name not in named | without
    ]


class Body:
    """Finds the end of a response's body whose bytes pass by."""

    def __init__(self, head: Head, *, bodiless: bool = False) -> None:
        """``bodiless``: it answers a HEAD."""
        self.done = bodiless or head.status in _BODILESS or head.length == 0
        self._left = head.length
        self._chunks = Chunks() if head.chunked else None

    @property
    def between_chunks(self) -> bool:
        """It is sent in chunks, of which none is begun."""
        return self._chunks is not None and self._chunks.between

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
