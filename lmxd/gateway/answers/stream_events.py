"""The events of a stream, line by line, made such that the clients of its API understand them.

llama-server sends the first event of an answer with its first token, and not at all if that is a part of a letter.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Final

import msgspec

from lmxd.gateway.http.chunks import BadAnswer

_EVENT: Final = b"event:"
_MAX_LINE: Final = 16 * 2**20
"""Bytes of one line: the last has the whole answer."""


class Lines:
    """The lines of a stream, whose pieces end anywhere."""

    def __init__(self) -> None:
        self._line = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The whole lines that have come, without their ends. Raises BadAnswer."""
        self._line += data
        if len(self._line) > _MAX_LINE:
            raise BadAnswer(f"an event is longer than {_MAX_LINE} bytes")
        if b"\n" not in data:
            return []
        *lines, rest = bytes(self._line).split(b"\n")
        self._line = bytearray(rest)
        return lines

    @property
    def rest(self) -> bytes:
        """The line that nothing ended."""
        return bytes(self._line)


class StreamLines(ABC):
    """A stream that is read and changed on its way, line by line."""

    def __init__(self) -> None:
        self._lines = Lines()

    def drops(self, line: bytes) -> bool:
        """Whether a line is left out."""
        return False

    def before(self, line: bytes) -> bytes:
        """The lines that are missing before one."""
        return b""

    @abstractmethod
    def whole(self, line: bytes) -> bytes:
        """A line as it goes to the client."""

    def feed(self, data: bytes) -> bytes:
        """The whole lines that have come. Raises BadAnswer."""
        lines = (line for line in self._lines.feed(data) if not self.drops(line))
        return b"".join(self.before(line) + self.whole(line) + b"\n" for line in lines)

    @property
    def rest(self) -> bytes:
        """The line that nothing ended."""
        return self._lines.rest


class StreamEvents(StreamLines):
    """The stream of an answer, as it is read and made whole.

    ``begins``: the events that may be its first; ``once``: those that clients bear once alone.
    """

    begins: ClassVar[frozenset[bytes]]
    once: ClassVar[frozenset[bytes]]

    def __init__(self) -> None:
        super().__init__()
        self._has_begun = False
        self._came: set[bytes] = set()
        """The events of ``once`` that have come."""
        self._dropping = False

    @abstractmethod
    def beginning(self) -> dict[str, Any]:
        """The first event, where an engine leaves it out."""

    def whole(self, line: bytes) -> bytes:
        return line

    def drops(self, line: bytes) -> bool:
        """llama-server begins anew with every token of an answer whose first token is half a character (an emoji)."""
        if line.startswith(_EVENT):
            name = line.removeprefix(_EVENT).strip()
            self._dropping = name in self._came
            self._came |= {name} & self.once
        return self._dropping

    def before(self, line: bytes) -> bytes:
        """The event that is missing before a line."""
        if self._has_begun or not line.startswith(_EVENT):
            return b""
        self._has_begun = True
        if line.removeprefix(_EVENT).strip() in self.begins:
            return b""
        event = self.beginning()
        self._came |= {str(event["type"]).encode()} & self.once
        data = self.whole(b"data: " + msgspec.json.encode(event))
        return b"event: " + str(event["type"]).encode() + b"\n" + data + b"\n\n"
