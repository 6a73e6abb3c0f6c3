"""The context that a request needs, as far as its body tells without a tokenizer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import msgspec

from lmxd.errors import LmxdError
from lmxd.gateway.http.upstream_call import UpstreamCall
from lmxd.gateway.leasing.filters import Fields, synonyms
from lmxd.gateway.requests.prompts import answers_of, text_of
from lmxd.gateway.requests.wanted import bounded

_GENERATING: Final = frozenset(
    ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/completion")
)
"""Paths of requests whose prompt can be counted before they are sent."""
OF_TEXTS: Final = ("/v1/completions", "/completion")
"""Paths of requests whose prompt is a parameter: in a chat that says nothing."""
LIMITS: Final = ("max_tokens", *synonyms("max_tokens"))
"""Names of the most tokens that an answer may have."""
_UNSAID: Final = 1024
"""Tokens that are kept for an answer of which the request says no length."""
_TEMPLATE: Final = 512
_PER_MESSAGE: Final = 64
"""Tokens that a template may add to a request, and to each of its messages."""
_GUESSED: Final = 4
"""Bytes per token of prose in English: a guess that is too low costs one growth."""
_MORE_THAN_TEXT: Final = re.compile(
    rb'"(?:tools|functions|chat_template_kwargs|response_format|json_schema|text|lora)"\s*:\s*[^"]'
    rb"|image|audio|video|multimodal|\\u00[2-7]"
)
"""Words of bodies that become more tokens than they have bytes: templates describe tools in words of their own, and a
picture is not its address. The text of a part is a string, and no such word; an escaped letter may hide one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """The need of one request, in tokens.

    ``most``: those of its prompt at most; None where its bytes do not tell. ``guess``: about as many. ``limit``: those
    that its answer may have; None where nothing is said. ``text``: the bytes of its prompt, by which it is known again.
    ``answers``: how many are asked for; None where it has several prompts.
    """

    most: int | None
    guess: int
    limit: int | None
    text: bytes
    answers: int | None = 1

    @property
    def answer(self) -> int:
        """Tokens that are kept for the answer."""
        return _UNSAID if self.limit is None else self.limit


def need_of(call: UpstreamCall) -> Need | None:
    """The need of a request that generates; None for any other, and for one that is for the engine to judge."""
    path = call.path.partition("?")[0]
    if call.method != "POST" or path not in _GENERATING:
        return None
    try:
        fields = msgspec.json.decode(bounded(call.body), type=Fields)
        limit, answers = limit_of(fields), answers_of(fields)
    except (LmxdError, msgspec.MsgspecError, ValueError, RecursionError):
        return None
    text, exact = text_of(fields), _counted(fields) if path in OF_TEXTS else None
    if exact is not None:
        return Need(most=exact, guess=exact, limit=limit, text=text, answers=answers)
    return Need(most=_most(call.body), guess=len(text) // _GUESSED, limit=limit, text=text, answers=answers)


def _counted(fields: Fields) -> int | None:
    """The tokens of a prompt that is a list of tokens."""
    said = fields.get("prompt")
    if said is None or not bytes(said).startswith(b"["):
        return None
    try:
        return len(msgspec.json.decode(said, type=list[int]))
    except msgspec.ValidationError:
        return None


def limit_of(fields: Fields) -> int | None:
    """Tokens that an answer may have, None if nothing is said: the largest, for engines differ in which they heed."""
    said = [msgspec.json.decode(fields[name], type=float | None) for name in LIMITS if name in fields]
    counts = [int(count) for count in said if count is not None and 0 <= count <= 2**31]
    return max(counts, default=None)


def _most(body: bytes) -> int | None:
    """Each token is a byte of the text at least, and escapes only make the body longer than that."""
    if _MORE_THAN_TEXT.search(body):
        return None
    return len(body) + _TEMPLATE + _PER_MESSAGE * body.count(b'"role"')
