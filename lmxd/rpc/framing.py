"""Bytes to lines, and lines to JSON-RPC, without I/O. A line that is no valid call becomes a JSON-RPC error."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

MAX_FRAME: Final = 1024 * 1024
"""The most bytes of one call. A valid one is far shorter, for every parameter has a bound."""
MAX_ANSWER: Final = 64 * MAX_FRAME
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
    """Collects bytes, and returns whole lines of at most ``most`` bytes."""

    def __init__(self, most: int = MAX_FRAME) -> None:
        self._most = most
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that ``data`` completes, without blank ones. Raises FrameTooLong."""
        self._rest += data
        *lines, rest = self._rest.split(b"\n")
        self._rest = rest
        if len(rest) > self._most or any(len(line) > self._most for line in lines):
            raise FrameTooLong
        return [bytes(line) for line in lines if line.strip()]


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
    if isinstance(id, (bool, dict, list)):
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
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"))
"""Made once, for making one takes as long as encoding a message."""


def encode(message: dict[str, Any]) -> bytes:
    return _ENCODER.encode({"jsonrpc": "2.0", **message}).encode() + b"\n"


def result(id: Id, value: Any) -> bytes:
    return encode({"id": id, "result": value})


def error(id: Id, code: int, message: str, data: dict[str, Any] | None = None) -> bytes:
    body: dict[str, Any] = {"code": code, "message": message}
    return encode({"id": id, "error": body | ({"data": data} if data else {})})


def notification(method: str, params: dict[str, Any]) -> bytes:
    return encode({"method": method, "params": params})
