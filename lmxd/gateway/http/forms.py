"""Forms (multipart/form-data), as files are sent: only short fields of them are looked at."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from lmxd.errors import LmxdError

logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
"""It writes a line for each malformed form, as many as a client likes. Its client is told."""
_KIND: Final = b"multipart/form-data"
_MOST_PARTS: Final = 1000
"""Parts of a form: each takes time, and all others wait meanwhile."""
_LONGEST: Final = 1024
"""Bytes of a field that is kept; what is longer is no name."""
_LINE_END: Final = b"\r\n"
_DISPOSITION: Final = b'\r\nContent-Disposition: form-data; name="%b"\r\n\r\n'


def is_form(content_type: str) -> bool:
    """Whether a body of that type is a form."""
    return _said(content_type)[0] == _KIND


def _said(content_type: str) -> tuple[bytes, dict[bytes, bytes]]:
    """The kind of a body, and the parameters of it. A header may have any bytes."""
    return parse_options_header(content_type.encode("utf-8", "surrogateescape"))


def short_fields(body: bytes, content_type: str, wanted: Collection[str]) -> dict[str, str]:
    """The wanted fields that a form has. LmxdError ``invalid_request`` if it is malformed, or says one in two ways."""
    fields = _fields(body, content_type, wanted)
    if fields.doubtful is not None:  # some engines take the first of them, some the last
        raise LmxdError("invalid_request", f"{fields.doubtful}: the form says it twice", "say it once")
    return fields.found


def with_field(body: bytes, content_type: str, name: str, value: str) -> bytes:
    """A form with another value of a field, if it has that. LmxdError ``invalid_request`` if it is malformed."""
    parts = _fields(body, content_type, (name,)).parts
    return value.encode().join(_between(body, [(part.value, part.end) for part in parts]))


def with_fields(body: bytes, content_type: str, without: Collection[str], fields: Mapping[str, str]) -> bytes:
    """A form without some fields, and with others instead. LmxdError ``invalid_request`` if it is malformed."""
    boundary, parts = b"--" + _boundary(content_type), _fields(body, content_type, {*without, *fields}).parts
    if (first := body.find(boundary)) < 0:
        return body
    body = b"".join(_between(body, [(part.begin, part.end + len(_LINE_END)) for part in parts]))
    added = [
        boundary + _DISPOSITION % name.replace('"', "%22").encode() + value.encode() + _LINE_END
        for name, value in fields.items()
    ]
    return b"".join((body[:first], *added, body[first:]))


def _between(body: bytes, spans: list[tuple[int, int]]) -> list[bytes]:
    """The bytes before, between and after some."""
    begins, ends = [0, *(end for _, end in spans)], [*(begin for begin, _ in spans), len(body)]
    return [body[begin:end] for begin, end in zip(begins, ends, strict=True)]


def _boundary(content_type: str) -> bytes:
    return _said(content_type)[1].get(b"boundary", b"")


def _fields(body: bytes, content_type: str, wanted: Collection[str]) -> _Fields:
    fields = _Fields(body, _boundary(content_type), wanted)
    try:
        parser = MultipartParser(
            _boundary(content_type),
            {
                "on_part_begin": fields.part_begin,
                "on_header_field": fields.header_name,
                "on_header_value": fields.header_value,
                "on_header_end": fields.header_end,
                "on_part_data": fields.data,
                "on_part_end": fields.part_end,
            },
        )
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise LmxdError("invalid_request", f"the body is no form: {error}", "send multipart/form-data") from error
    return fields


@dataclass(frozen=True, slots=True)
class _Part:
    """The bytes of a form that one field is: from its boundary on, its value, and the end of that."""

    begin: int
    value: int
    end: int


class _Fields:
    """Collects fields as a parser comes by them, piece by piece."""

    def __init__(self, body: bytes, boundary: bytes, wanted: Collection[str]) -> None:
        self.found: dict[str, str] = {}
        self.doubtful: str | None = None
        """A wanted field that it has with two values."""
        self.parts: list[_Part] = []
        """The parts that the wanted fields are, in their order."""
        self._body, self._boundary, self._wanted = body, boundary, wanted
        self._header, self._said, self._value = bytearray(), bytearray(), bytearray()
        self._name = ""
        self._count = 0
        self._begin: int | None = None

    def part_begin(self) -> None:
        """FormParserError if there were too many."""
        self._count += 1
        self._begin = None
        if self._count > _MOST_PARTS:
            raise FormParserError(f"it has more than {_MOST_PARTS} parts")

    def header_name(self, data: bytes, start: int, end: int) -> None:
        if self._begin is None:
            self._begin = start
        self._header += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._said += data[start:end]

    def header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._name = parse_options_header(bytes(self._said))[1].get(b"name", b"").decode(errors="replace")
        self._header.clear()
        self._said.clear()

    def data(self, data: bytes, start: int, end: int) -> None:
        if self._name in self._wanted and len(self._value) <= _LONGEST:
            self._value += data[start : min(end, start + _LONGEST + 1)]

    def part_end(self) -> None:
        if self._name in self._wanted and self._begin is not None:
            value = self._value.decode(errors="replace")
            if self.found.setdefault(self._name, value) != value:
                self.doubtful = self._name
            self.parts.append(self._part(self._begin))
        self._name = ""
        self._value.clear()

    def _part(self, headers: int) -> _Part:
        """The part whose headers begin there. Its value ends before the next boundary: no value has that in it."""
        value = self._body.index(_LINE_END * 2, headers) + len(_LINE_END * 2)
        next_one = re.compile(re.escape(_LINE_END + b"--" + self._boundary) + rb"(?=\r\n|--)")
        ends = next_one.search(self._body, value - len(_LINE_END))
        assert ends is not None  # the parser has found it
        begin = self._body.rindex(b"--" + self._boundary, 0, headers)
        return _Part(begin, value, max(value, ends.start()))
