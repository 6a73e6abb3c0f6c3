"""The rest of an answer that another instance has written, told so that it follows the first part. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec import Raw

from lmxd.gateway.answers.written import Written

_OF_THE_FIRST: Final = ("id", "created", "prompt", "generation_settings")
"""Fields in which the parts of an answer differ, and which are those of the request as its client made it."""
_TEXTS: Final = ("content", "text")
_SILENT: Final = frozenset(("role", *_TEXTS))
"""Fields of a delta that say nothing where the text is empty."""
_ENDS: Final = ("finish_reason", "stop", "usage", "error")
"""Fields by which an event without a text says something."""
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
        self.failed = False
        """The rest did not begin with what its client has been told."""

    def event(self, data: bytes) -> bytes | None:
        """An event of the rest as its client is told it; None if it has nothing new. Raises Differs."""
        if (fields := _read(data)) is None:  # such as [DONE]
            if self._owed:
                raise self._differs()
            return data
        for words, name in _texts(fields):
            words[name] = self._new(words[name])
        is_new = _is_new(fields)
        if is_new and self._owed:
            raise self._differs()
        return msgspec.json.encode(self._as_one(fields)) if is_new else None

    def whole(self, body: bytes) -> bytes:
        """The first part and the rest, told whole. Raises Differs."""
        if (fields := _read(body)) is None:
            raise self._differs()
        for words, name in _texts(fields):
            words[name] = self._first.text + self._new(words[name])
        if self._owed:
            raise self._differs()
        if "tokens" in fields:
            fields["tokens"] = self._first.tokens + fields["tokens"]
        return msgspec.json.encode(self._as_one(fields))

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
        if isinstance(usage := fields.get("usage"), dict):
            fields["usage"] = self._usage(usage)
        if isinstance(timings := fields.get("timings"), dict):
            fields["timings"] = _together(_object(last.get("timings")), timings)
        if "tokens_predicted" in fields:
            said = first.said + fields["tokens_predicted"]
            fields |= {"tokens_evaluated": first.prompted, "tokens_predicted": said}
        return fields

    def _usage(self, usage: dict[str, Any]) -> dict[str, Any]:
        asked, said = self._first.prompted, self._first.said + usage.get("completion_tokens", 0)
        counts = {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}
        return usage | _object(self._first.last.get("usage")) | counts


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


def _texts(fields: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Where an event, or an answer, has its text: an object, and the name in it."""
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
