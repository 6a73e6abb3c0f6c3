"""The format that an answer is to have, in words that llama-server heeds: it takes json_object for any text, and of
the Responses API no format at all."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

ANY_OBJECT: Final = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}}
"""A format for any object of JSON."""
_CHATS: Final = "/v1/chat/completions"
_RESPONSES: Final = "/v1/responses"


class _Format(Struct):
    """A format as either API has it; the Responses API has name and schema beside the type."""

    type: str
    name: str = "answer"
    schema: Raw = Raw()


class _Text(Struct):
    """The part ``text`` of a request to the Responses API."""

    format: _Format | None = None


class _Asked(Struct):
    """The parts of a request that name a format."""

    response_format: _Format | None = None
    text: _Text | None = None


def with_format(path: str, body: bytes) -> bytes:
    """A body that says its format so that it is heeded; any other as it is, which is for the engine to judge."""
    if path not in (_CHATS, _RESPONSES) or b"json_" not in body:
        return body
    try:
        asked = msgspec.json.decode(body, type=_Asked)
        if path == _CHATS:
            made = _of_chat(asked.response_format)
        else:
            made = None if asked.response_format or not asked.text else _of_response(asked.text.format)
        if made is None:
            return body
        fields: dict[str, Any] = msgspec.json.decode(body, type=dict[str, Raw])
        return msgspec.json.encode(fields | {"response_format": made})
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return body


def _of_chat(said: _Format | None) -> dict[str, Any] | None:
    """The format as /v1/chat/completions is to have it; None if it is said so already."""
    return ANY_OBJECT if said and said.type == "json_object" and not bytes(said.schema) else None


def _of_response(said: _Format | None) -> dict[str, Any] | None:
    if said and said.type == "json_schema" and bytes(said.schema):
        return {"type": "json_schema", "json_schema": {"name": said.name, "schema": said.schema}}
    return _of_chat(said)
