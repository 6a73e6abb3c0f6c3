"""The rest of an answer that another instance has written, told so that it follows the first part. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec import Raw

from lmxd.gateway.answers.written import Written, only_text

_OF_THE_FIRST: Final = ("id", "created", "prompt", "generation_settings")
"""Fields in which the parts of an answer differ, and which are those of the request as its client made it."""
_TEXTS: Final = ("content", "text")
_SILENT: Final = frozenset(("role", *_TEXTS))
"""Fields of a delta that say nothing where the text is empty."""
_ENDS: Final = ("finish_reason", "stop", "usage", "error")
"""Fields by which an event without a text says something."""
_BEGINS: Final = frozenset(("response.created", "response.in_progress", "message_start"))
_OPENS: Final = frozenset(("response.output_item.added", "response.content_part.added", "content_block_start"))
"""Events with which an answer begins, and a part of it. Those of its text are not told twice."""
_TEXT: Final = ("message", "output_text", "text")
_IDS: Final = ("id", "item_id")
_OF_A_PROMPT: Final = ("cache_n", "prompt_n", "prompt_ms", "prompt_per_token_ms", "prompt_per_second")


class Differs(Exception):
    """The error of a rest that does not begin with what its client has been told already."""


class Seam:
    """The place where the rest of an answer follows its first part.

    ``repeats``: the rest begins with the text of the first part, which its client is not told twice. ``anew``: it
    repeats it since it is the whole answer, written once more.
    """

    def __init__(self, first: Written, *, repeats: bool, anew: bool = False) -> None:
        self._first = first
        self._owed = first.text if repeats else ""
        self._anew = anew
        self._known: dict[str, str] = {}
        """The ids of the rest, and those of the first part that its client knows instead."""
        self.failed = False
        """The rest did not begin with what its client has been told."""

    def event(self, data: bytes) -> bytes | None:
        """An event of the rest as its client is told it; None if it has nothing new. Raises Differs."""
        if (fields := _read(data)) is None:  # such as [DONE]
            if self._owed:
                raise self._differs()
            return data
        try:
            return self._typed(fields) if isinstance(fields.get("type"), str) else self._untyped(fields)
        except (TypeError, RecursionError):  # a figure that is none, or parts within parts without end
            raise self._differs() from None

    def _untyped(self, fields: dict[str, Any]) -> bytes | None:
        """An event of chats, or of completions."""
        for words, name in _texts(fields):
            words[name] = self._new(words[name])
        is_new = _is_new(fields)
        if is_new and self._owed:
            raise self._differs()
        return msgspec.json.encode(self._as_one(fields)) if is_new else None

    def _typed(self, fields: dict[str, Any]) -> bytes | None:
        """An event of the Responses API, or of Anthropic's. At the end of a text, they tell the whole of it."""
        kind, part = fields["type"], fields.get("item") or fields.get("part") or fields.get("content_block")
        if kind in _BEGINS or (kind in _OPENS and isinstance(part, dict) and part.get("type") in _TEXT):
            self._note_ids(fields)
            return None
        if (found := _new_words(fields)) is not None:
            words, name = found
            words[name] = self._new(words[name])
            if not words[name]:
                return None
        if self._owed:
            raise self._differs()
        return msgspec.json.encode(self._as_one(self._renamed(fields)))

    def _note_ids(self, fields: dict[str, Any]) -> None:
        """Note the ids of the rest: its client knows those of the first part."""
        for name, own in (("response", self._first.id), ("item", self._first.part)):
            if isinstance(said := fields.get(name), dict) and own:
                self._known[str(said.get("id"))] = own

    def _renamed(self, value: Any) -> Any:
        """A value with the ids that its client knows."""
        if isinstance(value, list):
            return [self._renamed(each) for each in value]
        if not isinstance(value, dict):
            return value
        return {
            name: self._known.get(each, each) if name in _IDS and isinstance(each, str) else self._renamed(each)
            for name, each in value.items()
        }

    def whole(self, body: bytes) -> bytes:
        """The first part and the rest, told whole. Raises Differs."""
        if (fields := _read(body)) is None:
            raise self._differs()
        for words, name in _texts(fields):
            words[name] = self._first.text + self._new(words[name])
        if self._owed:
            raise self._differs()
        try:
            if "tokens" in fields:
                fields["tokens"] = self._first.tokens + fields["tokens"]
            return msgspec.json.encode(self._as_one(fields))
        except (TypeError, RecursionError):  # as in an event
            raise self._differs() from None

    def _differs(self) -> Differs:
        self.failed = True
        return Differs()

    def _new(self, text: str) -> str:
        """A text without what is still to be repeated."""
        if self._owed.startswith(text):
            self._owed = self._owed[len(text) :]
            return ""
        if not text.startswith(self._owed):
            raise self._differs()
        found, self._owed = text[len(self._owed) :], ""
        return found

    def _as_one(self, fields: dict[str, Any]) -> dict[str, Any]:
        """An event, or an answer, with the id and the figures of one that was written in one go."""
        first, last = self._first, self._first.last
        fields |= {name: last[name] for name in _OF_THE_FIRST if name in fields and name in last}
        if self._anew:
            return fields
        for counted in (fields, fields.get("response")):
            if isinstance(counted, dict) and isinstance(usage := counted.get("usage"), dict):
                counted["usage"] = self._usage(usage)
        if isinstance(timings := fields.get("timings"), dict):
            fields["timings"] = _together(_object(last.get("timings")), timings)
        if "tokens_predicted" in fields:
            said = first.said + fields["tokens_predicted"]
            fields |= {"tokens_evaluated": first.prompted, "tokens_predicted": said}
        return fields

    def _usage(self, usage: dict[str, Any]) -> dict[str, Any]:
        """The tokens of the whole, by the names by which they are counted."""
        first = {name: self._first.usage.get(name, count) for name, count in usage.items()}
        if "output_tokens" in usage:
            said = self._first.said + usage["output_tokens"]
            total = {"total_tokens": self._first.prompted + said} if "total_tokens" in usage else {}
            return first | {"output_tokens": said} | total
        asked, said = self._first.prompted, self._first.said + usage.get("completion_tokens", 0)
        counts = {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}
        return first | counts


def _read(data: bytes) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (ValueError, RecursionError):
        return None


def _object(value: Raw | None) -> dict[str, Any]:
    """The fields of a value; none if it is no object."""
    return {} if value is None else _read(bytes(value)) or {}


def _choices(fields: dict[str, Any]) -> list[dict[str, Any]]:
    found = fields.get("choices")
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _words(choice: dict[str, Any]) -> dict[str, Any]:
    """The part of an alternative that has its text."""
    found = choice.get("delta") or choice.get("message") or choice
    return found if isinstance(found, dict) else choice


def _new_words(fields: dict[str, Any]) -> tuple[dict[str, Any], str] | None:
    """Where an event that says its type has what is new of a text."""
    match fields:
        case {"type": "response.output_text.delta", "delta": str()}:
            return fields, "delta"
        case {"type": "content_block_delta", "delta": {"type": "text_delta", "text": str()} as words}:
            return words, "text"
    return None


def _texts(fields: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Where an event, or an answer, has its text: an object, and the name in it."""
    if (words := only_text(fields.get("output", fields.get("content")))) is not None:
        yield words, "text"
        return
    for words in (fields, *map(_words, _choices(fields))):
        for name in _TEXTS:
            if isinstance(words.get(name), str):
                yield words, name


def _is_new(fields: dict[str, Any]) -> bool:
    """Whether an event says anything to who has the first part."""
    choices = _choices(fields)
    if any(words[name] for words, name in _texts(fields)):
        return True
    if any(each.get(name) for each in (fields, *choices) for name in _ENDS):
        return True
    return any(value for each in choices for name, value in (each.get("delta") or {}).items() if name not in _SILENT)


def _together(first: dict[str, Any], rest: dict[str, Any]) -> dict[str, Any]:
    """The times of both parts, as llama-server tells them: those of the prompt are the first part's."""
    made = rest | {name: first[name] for name in _OF_A_PROMPT if name in first}
    count = first.get("predicted_n", 0) + rest.get("predicted_n", 0)
    spent = first.get("predicted_ms", 0.0) + rest.get("predicted_ms", 0.0)
    made |= {"predicted_n": count, "predicted_ms": spent}
    if count and spent:
        made |= {"predicted_per_token_ms": spent / count, "predicted_per_second": 1000 * count / spent}
    return made
