"""An answer as it is written: its text so far, its tokens, and how it ended. Pure."""

from __future__ import annotations

from typing import Any, Final, cast

import msgspec
from msgspec import Raw, Struct, field

_FULL: Final = frozenset(("length", "limit", "max_tokens"))
"""Words of engines for an answer that ended where it was to have no more tokens, or could not."""
_LONGEST: Final = 16 * 2**20
"""Characters of an answer that are kept."""


class _Words(Struct):
    """A message, or the part of one that is new."""

    content: Any = None
    reasoning_content: str | None = None
    tool_calls: Any = None


class _Alternative(Struct):
    """One of the answers to a request."""

    index: int = 0
    delta: _Words | None = None
    message: _Words | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Usage(Struct):
    """The tokens of a request, as OpenAI's API and Anthropic's count them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    input_tokens: int = 0
    cache_read_input_tokens: int = 0
    output_tokens: int = 0


class _Measured(Struct):
    """The tokens of a request, as llama-server times them."""

    cache_n: int = 0
    prompt_n: int = 0
    predicted_n: int = 0


class _Part(Struct):
    """A part of an answer of the Responses API, or of Anthropic's: an item, a block, or what is new of either."""

    id: str = ""
    type: str = ""
    text: str | None = None
    stop_reason: str | None = None


class _Within(Struct):
    """The answer within an event of the Responses API, or of Anthropic's."""

    id: str = ""
    object: str | None = None
    usage: Raw = Raw(b"null")


class _Piece(Struct):
    """An event of a stream, or a whole answer, of any API that llama-server has."""

    type: str = ""
    choices: list[_Alternative] = field(default_factory=list)
    content: Any = None
    output: Any = None
    tokens: list[int] = field(default_factory=list)
    stop_type: str | None = None
    stop_reason: str | None = None
    object: str | None = None
    usage: Raw = Raw(b"null")
    timings: _Measured | None = None
    tokens_evaluated: int | None = None
    tokens_predicted: int = 0
    delta: _Part | str | None = None
    message: _Within | None = None
    response: _Within | None = None
    item: _Part | None = None
    content_block: _Part | None = None


_OPENS: Final = ("response.output_item.added", "content_block_start")
_CLOSES: Final = ("response.output_text.done", "content_block_stop")
"""Events in which a part of an answer begins, and in which its text has come to its end."""
_OF_TEXT: Final = ("message", "text")
"""Types of parts that are nothing but text."""


class Written:
    """One answer as it is written, from the events of its stream or from the whole of it.

    ``plain``: it is one text, and nothing else has begun in it, such as a thought or a call of a tool. ``closed``: that
    text has come to its end, and nothing has followed. ``ended``: the engine has ended it for its length. ``prompted``
    and ``said``: tokens of its prompt, and of itself. ``tokens``: its own, where the engine names them. ``last``: the
    fields of its end, of several events the later ones. ``usage``: as they count it. ``id`` and ``part``: those by
    which the events of the Responses API name it, and its text.
    """

    def __init__(self) -> None:
        self.plain = True
        self.closed = self.ended = False
        self.id = self.part = ""
        self.usage: dict[str, Any] = {}
        self.prompted = self.said = 0
        self.tokens: list[int] = []
        self.last: dict[str, Raw] = {}
        self._texts: list[str] = []
        self._length = 0
        self._has_part = False

    @property
    def text(self) -> str:
        self._texts = ["".join(self._texts)]
        return self._texts[0]

    @property
    def total(self) -> int:
        """Tokens of the prompt and of the answer."""
        return self.prompted + self.said

    def take(self, data: bytes) -> None:
        """Note an event, or the whole answer."""
        try:
            piece = msgspec.json.decode(data, type=_Piece)
            self._take_counts(piece)
        except (ValueError, RecursionError):
            self.plain = self.plain and data == b"[DONE]"
            return
        self._take_text(piece)
        self._take_parts(piece)
        whole = piece.response or piece
        completed = whole.object == "response" and whole.usage != Raw(b"null")  # it says so without room, too
        why = piece.delta.stop_reason if isinstance(piece.delta, _Part) else None
        reasons = (piece.stop_type, piece.stop_reason, why, *(each.finish_reason for each in piece.choices))
        self.ended = self.ended or completed or not _FULL.isdisjoint(reasons)
        if self.ended:
            self.last |= msgspec.json.decode(data, type=dict[str, Raw])

    def _take_text(self, piece: _Piece) -> None:
        texts = [_text_of(piece)]
        for each in piece.choices:
            words = each.delta or each.message or _Words()
            texts += [each.text, words.content]
            if each.index or words.reasoning_content or words.tool_calls:
                self.plain = False
        for text in texts:
            if isinstance(text, str):
                self._texts.append(text)
                self._length += len(text)
            elif text is not None:
                self.plain = False
        self.tokens += piece.tokens
        if self._length > _LONGEST:
            self.plain, self._texts, self._length = False, [], 0

    def _take_parts(self, piece: _Piece) -> None:
        """Note what begins and what ends, in APIs that say so."""
        if piece.response is not None:
            self.id = self.id or piece.response.id
        if piece.type in _CLOSES:
            self.closed = True
        elif piece.type in _OPENS:
            begun = piece.item or piece.content_block or _Part()
            self.plain = self.plain and begun.type in _OF_TEXT and not self._has_part
            self.part, self.closed, self._has_part = self.part or begun.id, False, True
        elif isinstance(piece.delta, _Part) and piece.delta.type not in ("", "text_delta"):
            self.plain = False

    def _take_counts(self, piece: _Piece) -> None:
        """Note the tokens. ValueError for figures that are none."""
        within = piece.message or piece.response or piece
        usage = msgspec.json.decode(within.usage, type=_Usage | None) or _Usage()
        self.usage |= msgspec.json.decode(within.usage, type=dict[str, Any] | None) or {}
        asked = usage.input_tokens + usage.cache_read_input_tokens
        if usage.completion_tokens or usage.output_tokens:
            self.prompted = usage.prompt_tokens or asked or self.prompted
            self.said = usage.completion_tokens or usage.output_tokens
        elif piece.message is not None:
            self.prompted = asked
        elif piece.tokens_evaluated is not None:
            self.prompted, self.said = piece.tokens_evaluated, piece.tokens_predicted
        elif (timings := piece.timings) is not None:
            self.prompted, self.said = timings.cache_n + timings.prompt_n, timings.predicted_n


def _text_of(piece: _Piece) -> Any:
    """The text of an event, or of a whole answer. None if it has none; another value if it has more than a text."""
    if piece.type.startswith("response."):
        return piece.delta if piece.type == "response.output_text.delta" else None
    if isinstance(piece.delta, _Part):
        return piece.delta.text
    found = piece.content if piece.output is None else piece.output
    words = only_text(found)
    return found if words is None else words["text"]


def only_text(parts: Any) -> dict[str, Any] | None:
    """The object with the text of an answer that has no other part: of a message's one block, or of the one message."""
    match parts:
        case [{"type": "message", "content": [{"type": "output_text", "text": str()} as words]}]:
            return cast(dict[str, Any], words)
        case [{"type": "text", "text": str()} as words]:
            return cast(dict[str, Any], words)
    return None
