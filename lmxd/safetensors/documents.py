"""JSON of untrusted files: one object whose keys occur once, of bounded size and depth."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Final

MAX_NUMBER: Final = 20
"""Digits of a whole number. 2^64 has as many; Python takes a long time for a million of them."""


class DirectoryError(ValueError):
    """The error for a model directory that vLLM would not load, or that is hostile. ``remedy`` says what to do."""

    def __init__(self, problem: str, remedy: str = "fetch the model again") -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem} ({self.remedy})"


class Uncovered(DirectoryError):
    """The error for a model whose bytes no formula here is sure of: they have to be declared."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem, "set estimated_memory_gb for the model")


def json_object(text: bytes, name: str) -> dict[str, Any]:
    """The one object of a JSON document. DirectoryError if it is none, has a key twice or is nested too deeply.

    ``name``: of the file, for the message. Its size is the caller's matter.
    """
    try:
        found = json.loads(text, object_pairs_hook=_unique, parse_int=_whole)
    except RecursionError as error:
        raise DirectoryError(f"{name} is nested too deeply") from error
    except ValueError as error:
        raise DirectoryError(f"{name} cannot be read ({error})") from error
    if not isinstance(found, dict):
        raise DirectoryError(f"{name} is {_kind(found)}, not an object")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise ValueError(f"key {twice[:64]!r} occurs twice")
    return found


def _whole(digits: str) -> int:
    if len(digits) > MAX_NUMBER:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _kind(value: object) -> str:
    return {list: "a list", str: "a string", bool: "a truth value", type(None): "null"}.get(type(value), "a number")
