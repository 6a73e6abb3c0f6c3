"""Bytes to lines, and lines to JSON-RPC, without I/O. A line that is no valid call becomes a JSON-RPC error."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

from lmxd import plain_json

MAX_FRAME: Final = 16 * 1024
"""The most bytes of one call. A valid one has at most half as many, for every parameter has a bound."""
MAX_ANSWER: Final = 64 * 1024 * 1024
"""The most bytes of one answer: a queue of hundreds of requests, each with many devices, is long."""

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
REFUSED: Final = -32000
"""lmxd's own errors. Their stable code is in ``data.code``."""

Id = str | int | float | None


class FrameTooLong(Exception):
    """The error for a line that is too long: the next one cannot be found."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request, or a notification if ``wants_answer`` is False."""

    id: Id
    method: str
    params: dict[str, Any]
    wants_answer: bool

    @property
    def name(self) -> str:
        """The name of the method, without the prefix ``lmxd.``, which may be left out."""
        return self.method.removeprefix("lmxd.")


@dataclass(frozen=True, slots=True)
class Malformed:
    """A frame that is answered with an error. ``id`` is None if it could not be read."""

    id: Id
    code: int
    message: str


class Framer:
    """Collects bytes, and gives back whole lines of at most ``most`` bytes, one at a time."""

    def __init__(self, most: int = MAX_FRAME) -> None:
        self._most = most
        self._rest = bytearray()
        self._searched = 0
        """So many bytes at the beginning have no end of a line."""

    @property
    def size(self) -> int:
        """The bytes that were fed and not taken."""
        return len(self._rest)

    def feed(self, data: bytes | memoryview) -> None:
        self._rest += data

    @property
    def has_line(self) -> bool:
        """Whether the end of a line was fed. Raises FrameTooLong."""
        return self._end() >= 0

    def take(self) -> bytes | None:
        """The next line that is not blank; None until its end is fed. Raises FrameTooLong."""
        while (end := self._end()) >= 0:
            line = bytes(self._rest[:end])
            del self._rest[: end + 1]
            self._searched = 0
            if line.strip():
                return line
            del self._rest[: len(self._rest) - len(self._rest.lstrip(b"\n"))]  # thousands of them at once
        return None

    def _end(self) -> int:
        end = self._rest.find(b"\n", self._searched)
        self._searched = len(self._rest) if end < 0 else end
        if self._searched > self._most:
            raise FrameTooLong(f"a frame is longer than {self._most} bytes")
        return end


def understand(line: bytes) -> Call | Malformed:
    """Parse one frame of a client."""
    try:
        message = _DECODER.decode(line.decode())
    except (ValueError, RecursionError) as error:
        return Malformed(None, PARSE_ERROR, f"not JSON: {error}")
    if isinstance(message, list):
        return Malformed(None, INVALID_REQUEST, "batches are not supported: send one object a line")
    if not isinstance(message, dict):
        return Malformed(None, INVALID_REQUEST, "a request is a JSON object")
    id = message.get("id")
    if isinstance(id, (bool, dict, list)) or (isinstance(id, float) and not math.isfinite(id)):
        return Malformed(None, INVALID_REQUEST, "id is a string or a number")
    if message.get("jsonrpc") != "2.0":
        return Malformed(id, INVALID_REQUEST, 'jsonrpc is "2.0"')
    if not isinstance(message.get("method"), str):
        return Malformed(id, INVALID_REQUEST, "method is missing or not a string")
    params = message.get("params", {})
    if not isinstance(params, dict):
        return Malformed(id, INVALID_PARAMS, "params is an object: parameters go by name")
    return Call(id, message["method"], params, "id" in message)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant)


def encode(message: dict[str, Any]) -> bytes:
    return plain_json.encode({"jsonrpc": "2.0", **message}).encode() + b"\n"


def call(id: Id, method: str, params: dict[str, Any]) -> bytes:
    """A call as a client sends it; a notification, if ``id`` is None.

    ValueError, TypeError or RecursionError for a value that JSON cannot say.
    """
    named = {} if id is None else {"id": id}
    return plain_json.strictly({"jsonrpc": "2.0", **named, "method": method, "params": params}).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Encoded:
    """A result that is JSON already: encoded once for all who ask."""

    json: bytes


def encoded(value: Any) -> Encoded:
    return Encoded(plain_json.encode(value).encode())


def of_model(value: BaseModel) -> Encoded:
    """A message as JSON, with null for each number in it that is not finite."""
    return Encoded(value.model_dump_json().encode())


def result(id: Id, value: Encoded) -> bytes:
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}\n' % (plain_json.encode(id).encode(), value.json)


def error(id: Id, code: int, message: str, data: dict[str, Any] | None = None) -> bytes:
    body: dict[str, Any] = {"code": code, "message": message}
    return encode({"id": id, "error": body | ({"data": data} if data else {})})


def notification(method: str, params: dict[str, Any]) -> bytes:
    return encode({"method": method, "params": params})
