"""The prompt of a request, as far as it tells which slot of its instance has seen most of it."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from lmxd.errors import LmxdError
from lmxd.gateway.http.upstream_call import UpstreamCall
from lmxd.gateway.leasing.filters import Fields, synonyms
from lmxd.gateway.requests.wanted import bounded

_HEEDED: Final = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/completion", "/infill")
"""Paths at which llama-server heeds ``id_slot``: it does not hand on Anthropic's requests whole."""
_WITHOUT: Final = ("/tokenize", "/detokenize", "/apply-template", "/input_tokens", "/count_tokens")
"""Ends of paths that take no slot."""
_PARTS: Final = "lora tools system instructions messages input input_extra input_prefix prompt".split()
"""Parameters that become the prompt, in the order in which most templates have them. With other adapters, none of it
is what it was."""
ANSWERS: Final = frozenset(("n", *synonyms("n")))
"""Names of how many answers a request wants to each prompt."""
_SEVERAL: Final = frozenset((b'"', b"[", b"{"))
"""Beginnings of the first item where a list is of prompts, rather than of a prompt's tokens."""


class Prompt(Struct, frozen=True):
    """The parameters of a request that takes one slot, and those of them that are its prompt."""

    fields: Fields
    text: bytes

    def to(self, slot: int) -> bytes:
        """The body that names a slot."""
        return msgspec.json.encode({**self.fields, "id_slot": slot})


def takes_slot(call: UpstreamCall) -> bool:
    """Whether an engine may give a request a slot."""
    return call.method == "POST" and not call.path.partition("?")[0].endswith(_WITHOUT)


def prompt_of(call: UpstreamCall) -> Prompt | None:
    """The prompt of a request of which the slot may be chosen. None for one that names it, or takes several."""
    if call.method != "POST" or call.path.partition("?")[0] not in _HEEDED:
        return None
    try:
        fields = msgspec.json.decode(bounded(call.body), type=Fields)
        answers = answers_of(fields)
    except (LmxdError, msgspec.MsgspecError, ValueError, RecursionError):
        return None  # for the engine to judge
    if answers != 1 or "id_slot" in fields:
        return None
    return Prompt(fields, text_of(fields))


def text_of(fields: Fields) -> bytes:
    """The parameters that become the prompt, one after the other."""
    return b"".join(bytes(fields[name]) for name in _PARTS if name in fields)


def answers_of(fields: Fields) -> int | None:
    """The answers that a request wants to its prompt, of several names the most. None for any other number, and where
    it has several prompts.
    """
    said = [value for name in ANSWERS if (value := _value(fields, name)) is not None]
    counts = [int(value) for value in said if isinstance(value, int | float) and 1 <= value <= 2**31 and value % 1 == 0]
    if len(counts) < len(said) or _is_list_of_prompts(fields):
        return None
    return max(counts, default=1)


def _value(fields: Fields, name: str) -> Any:
    return msgspec.json.decode(fields.get(name, Raw(b"null")))


def _is_list_of_prompts(fields: Fields) -> bool:
    said = bytes(fields.get("prompt", Raw()))
    return said.startswith(b"[") and said[1:].lstrip()[:1] in _SEVERAL
