"""An answer as it is written: its text so far, its tokens, and how it ended. Pure."""

from __future__ import annotations

from typing import Any, Final

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


class _Piece(Struct):
    """An event of a stream, or a whole answer, of any API that llama-server has."""

    choices: list[_Alternative] = field(default_factory=list)
    content: Any = None
    tokens: list[int] = field(default_factory=list)
    stop_type: str | None = None
    stop_reason: str | None = None
    object: str | None = None
    usage: _Usage | None = None
    timings: _Measured | None = None
    tokens_evaluated: int | None = None
    tokens_predicted: int = 0


class Written:
    """One answer as it is written, from the events of its stream or from the whole of it.

    ``plain``: it is one text, and nothing else has begun in it, such as a thought or a call of a tool. ``ended``: the
    engine has ended it for its length. ``prompted`` and ``said``: tokens of its prompt, and of itself. ``tokens``: its
    own, where the engine names them. ``last``: the fields of its end, of several events the later ones.
    """

    def __init__(self) -> None:
        self.plain = True
        self.ended = False
        self.prompted = self.said = 0
        self.tokens: list[int] = []
        self.last: dict[str, Raw] = {}
        self._texts: list[str] = []
        self._length = 0

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
        except (ValueError, RecursionError):
            self.plain = self.plain and data == b"[DONE]"
            return
        self._take_text(piece)
        self._take_counts(piece)
        whole_response = piece.object == "response"  # which calls itself completed even where it had no more room
        reasons = (piece.stop_type, piece.stop_reason, *(each.finish_reason for each in piece.choices))
        self.ended = self.ended or whole_response or not _FULL.isdisjoint(reasons)
        if self.ended:
            self.last |= msgspec.json.decode(data, type=dict[str, Raw])

    def _take_text(self, piece: _Piece) -> None:
        texts = [piece.content]
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

    def _take_counts(self, piece: _Piece) -> None:
        if (usage := piece.usage) is not None and (usage.completion_tokens or usage.output_tokens):
            asked = usage.input_tokens + usage.cache_read_input_tokens
            self.prompted, self.said = usage.prompt_tokens or asked, usage.completion_tokens or usage.output_tokens
        elif piece.tokens_evaluated is not None:
            self.prompted, self.said = piece.tokens_evaluated, piece.tokens_predicted
        elif (timings := piece.timings) is not None:
            self.prompted, self.said = timings.cache_n + timings.prompt_n, timings.predicted_n
