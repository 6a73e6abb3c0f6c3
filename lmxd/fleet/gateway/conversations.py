"""The conversation that a request goes on with, as far as its body tells."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw, Struct

from lmxd.fleet.choosing.sessions import session_of
from lmxd.gateway.requests.wanted import bounded

_BEGIN: Final = 512
"""Bytes of a prompt without messages by which it is known again: what follows is what was added."""
_READ: Final = 2**22
"""Bytes of a body, beyond which it is not read: most of it is a picture."""
_SYSTEM: Final = ("system", "developer")


class _Said(Struct):
    role: str = ""


class _Prompted(Struct):
    """The fields in which the requests of an API have their prompt."""

    messages: list[Raw] | None = None
    input: Raw = Raw()
    prompt: Raw = Raw()


def conversation(user: str | None, model: str, body: bytes) -> str:
    """The name of a conversation: by all up to its first message that is no instruction; empty if there is none.

    Instructions alone are those of all conversations of an application.
    """
    if len(body) > _READ:
        return ""
    try:
        asked = msgspec.json.decode(bounded(body), type=_Prompted)
        first = _up_to_the_first(asked.messages) if asked.messages else bytes(asked.input or asked.prompt)[:_BEGIN]
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return ""
    return session_of(user or "", model, first) if first else ""


def _up_to_the_first(messages: list[Raw]) -> bytes:
    found = []
    for message in messages:
        found.append(bytes(message))
        if msgspec.json.decode(message, type=_Said).role not in _SYSTEM:
            break
    return b"".join(found)
