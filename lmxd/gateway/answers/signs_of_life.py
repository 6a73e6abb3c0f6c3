"""Signs of life in an answer that is not there yet: clients and proxies give up on what is silent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from lmxd.errors import LmxdError
from lmxd.gateway.requests import failures
from lmxd.gateway.requests.failures import ErrorFormat

SOON: Final = 1.0
"""Seconds without an answer after which a stream begins: until then, errors have their status."""
LATE: Final = 240.0
"""The same for one object, whose reader knows an error by its status alone; Node gives up after 300."""


@dataclass(frozen=True, slots=True)
class SignsOfLife:
    """The signs of one kind of answer. ``patience``: seconds without an answer until it begins."""

    content_type: str
    patience: float

    def sign(self, standing: str) -> bytes:
        """One of them: a space, which no reader of JSON minds. ``standing``: where the request stands."""
        return b" "

    def whole(self, found: bytes) -> bytes:
        """An answer of a known length, behind the signs."""
        return found

    def error(self, error: LmxdError, status: int, kind: ErrorFormat) -> bytes | None:
        """An error behind the signs; None if nobody would know it there."""
        return None


class _Lines(SignsOfLife):
    """Lines of JSON, as ollama streams."""

    __slots__ = ()

    def error(self, error: LmxdError, status: int, kind: ErrorFormat) -> bytes | None:
        return json.dumps(failures.body_of(error, status, kind)).encode() + b"\n"


class _Events(SignsOfLife):
    """An event stream, in which there are comments."""

    __slots__ = ()

    def sign(self, standing: str) -> bytes:
        return f": {standing}\n\n".encode()

    def whole(self, found: bytes) -> bytes:
        return b"data: " + b" ".join(found.splitlines()) + b"\n\n"

    def error(self, error: LmxdError, status: int, kind: ErrorFormat) -> bytes | None:
        return failures.event_of(error, status, kind)


EVENTS: Final[SignsOfLife] = _Events("text/event-stream", SOON)
LINES: Final[SignsOfLife] = _Lines("application/x-ndjson", SOON)
OBJECT: Final = SignsOfLife("application/json", LATE)
