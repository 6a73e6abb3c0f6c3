"""The beginning and the end of an answer that passes by: engines count its tokens there."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from typing import Final

_EDGE: Final = 4096
"""Bytes that are kept at either end: several times as many as the counts of any engine."""
_ASKED: Final = {
    b'"prompt_tokens"': (),
    b'"input_tokens"': (b'"cache_read_input_tokens"', b'"cache_creation_input_tokens"'),
    b'"tokens_evaluated"': (),
    b'"prompt_n"': (b'"cache_n"',),
}
_ANSWERED: Final = {
    b'"completion_tokens"': (),
    b'"output_tokens"': (),
    b'"tokens_predicted"': (),
    b'"predicted_n"': (),
}
"""Names of the counts of OpenAI's API, of Anthropic's, of llama-server's own. The first that is there is taken, with
those of the tokens that it leaves out since the engine had them in its cache."""

_FIGURE: Final = re.compile(rb"\s*:\s*(\d{1,9})\b")


class Edges:
    """Both ends of an answer's body. Within its texts the quotes are escaped, so that no text is taken for a count."""

    def __init__(self) -> None:
        self._first = b""
        self._last: deque[bytes] = deque()
        self._size = 0

    def keep(self, data: bytes) -> None:
        """Note a piece. No more than the last pieces are held, none of them longer than an edge."""
        if len(self._first) < _EDGE:
            self._first += data[: _EDGE - len(self._first)]
        piece = data if len(data) <= _EDGE else data[-_EDGE:]
        self._last.append(piece)
        self._size += len(piece)
        while self._size - len(self._last[0]) >= _EDGE:
            self._size -= len(self._last.popleft())

    @property
    def tokens(self) -> tuple[int | None, int | None]:
        """Of the prompt, and of the answer; None where the engine does not say it."""
        both = self._first + b"\n" + b"".join(self._last)
        return _count(both, _ASKED), _count(both, _ANSWERED)


def _count(text: bytes, names: Mapping[bytes, tuple[bytes, ...]]) -> int | None:
    """The first count that is there, and what it leaves out."""
    for name, others in names.items():
        if (count := _last(text, name)) is not None:
            return count + sum(_last(text, other) or 0 for other in others)
    return None


def _last(text: bytes, name: bytes) -> int | None:
    """The last figure under a name: streams count as they go on.

    It is found from behind, without a pattern over all of the text: each answer waits for it.
    """
    at = text.rfind(name)
    found = _FIGURE.match(text, at + len(name)) if at >= 0 else None
    return int(found[1]) if found else None
