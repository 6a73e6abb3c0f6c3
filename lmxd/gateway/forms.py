"""Forms (multipart/form-data), as files are sent: only short fields of them are looked at."""

from __future__ import annotations

import logging
from collections.abc import Collection
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


def is_form(content_type: str) -> bool:
    """Whether a body of that type is a form."""
    return _said(content_type)[0] == _KIND


def _said(content_type: str) -> tuple[bytes, dict[bytes, bytes]]:
    """The kind of a body, and the parameters of it. A header may have any bytes."""
    return parse_options_header(content_type.encode("utf-8", "surrogateescape"))


def short_fields(body: bytes, content_type: str, wanted: Collection[str]) -> dict[str, str]:
    """The wanted fields that a form has. LmxdError ``invalid_request`` if it is malformed."""
    fields = _Fields(wanted)
    try:
        parser = MultipartParser(
            _said(content_type)[1].get(b"boundary", b""),
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
    return fields.found


class _Fields:
    """Collects fields as a parser comes by them, piece by piece."""

    def __init__(self, wanted: Collection[str]) -> None:
        self.found: dict[str, str] = {}
        self._wanted = wanted
        self._header, self._said, self._value = bytearray(), bytearray(), bytearray()
        self._name = ""
        self._parts = 0

    def part_begin(self) -> None:
        """FormParserError if there were too many."""
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise FormParserError(f"it has more than {_MOST_PARTS} parts")

    def header_name(self, data: bytes, start: int, end: int) -> None:
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
        if self._name in self._wanted:
            self.found[self._name] = self._value.decode(errors="replace")
        self._name = ""
        self._value.clear()
