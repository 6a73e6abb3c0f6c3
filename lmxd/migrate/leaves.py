"""The leaves of an input file, each of which is taken or said: nothing is lost in silence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any, Final

from lmxd.text import shortened

_SECRET: Final = re.compile(r"(?i)api[-_]?keys?\b|token|secret|passw|\bkey\b")
_FIRST: Final = re.compile(r"[^.\[]*")
_LONGEST: Final = 300
"""Characters of a value that is said."""


class Leaves:
    """A mapping of an input file. What nobody takes from it is its ``rest``."""

    def __init__(self, value: object, path: str = "") -> None:
        self._path = path
        self._left: dict[str, Any] = {str(k): v for k, v in value.items()} if isinstance(value, Mapping) else {}
        self._whole: object = None if isinstance(value, Mapping) else value
        self._parts: list[Leaves] = []

    def __contains__(self, key: str) -> bool:
        return key in self._left

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._left))

    def take(self, key: str) -> Any:
        """The value of a key, or None: who takes it accounts for it."""
        return self._left.pop(key, None)

    def peek(self, key: str) -> Any:
        """The value of a key, or None, which is still to be accounted for."""
        return self._left.get(key)

    def drain(self) -> Iterator[tuple[str, object]]:
        """The rest, for which the caller accounts: paths begin here."""
        rest = [leaf for key, value in self._left.items() for leaf in flat(key, value)]
        self._left.clear()
        return iter(rest)

    def number(self, key: str) -> float | None:
        """The value of a key, if it is a number; what is none stays in the rest."""
        value = self._left.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        return float(self.take(key))

    def text(self, key: str) -> str | None:
        """The value of a key, if it is a text that says something."""
        return str(self.take(key)) if isinstance(self._left.get(key), str) and self._left[key].strip() else None

    def items(self, key: str) -> list[str]:
        """The scalars of a list, or a single one."""
        value = self._left.get(key)
        values = value if isinstance(value, list) else [] if value is None else [value]
        if any(isinstance(item, (list, Mapping)) for item in values):
            return []
        self.take(key)
        return [str(item) for item in values]

    def part(self, key: str) -> Leaves:
        """The mapping of a key, whose rest is a part of this one's."""
        part = Leaves(self._left.pop(key, {}), f"{self._path}{key}.")
        self._parts.append(part)
        return part

    def rest(self) -> Iterator[tuple[str, object]]:
        """(path, scalar) of all that was not taken."""
        if self._whole is not None:
            yield from flat(self._path.rstrip("."), self._whole)
        for key, value in self._left.items():
            yield from flat(f"{self._path}{key}", value)
        for part in self._parts:
            yield from part.rest()


def flat(path: str, value: object) -> Iterator[tuple[str, object]]:
    """(path, value) of all that is in a value: scalars, lists of scalars, and what is empty."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from flat(f"{path}.{key}", inner)
    elif isinstance(value, list) and any(isinstance(inner, (list, Mapping)) for inner in value):
        for number, inner in enumerate(value):
            yield from flat(f"{path}[{number}]", inner)
    else:
        yield path, value


def shown(path: str, value: object) -> str:
    """The value of a leaf in words; nothing if it is empty. Secrets are not shown."""
    if value is None or value == [] or value == {}:
        return ""
    values = value if isinstance(value, list) else [value]
    if is_secret(path):
        return f"{len(values)} not shown" if len(values) > 1 else "not shown"
    return shortened(", ".join(_shown(_plain(v)) for v in values), _LONGEST)


def _shown(word: str) -> str:
    """A word; of NAME=VALUE, where the name is one of secrets, the name alone."""
    name, equals, _ = word.partition("=")
    return f"{name}: not shown" if equals and is_secret(name) else word


def grouped(leaves: Iterable[tuple[str, object]]) -> Iterator[tuple[str, list[str]]]:
    """(first key, its leaves in words)."""
    for key, group in groupby(leaves, lambda leaf: _FIRST.match(leaf[0])[0]):  # type: ignore[index]
        found = []
        for path, value in group:
            inner, words = path[len(key) :].lstrip("."), shown(path, value)
            found.append(": ".join(filter(None, (inner, words))))
        yield key, [words for words in found if words]


def is_secret(name: str) -> bool:
    """Whether a name is one of keys, tokens or passwords."""
    return _SECRET.search(name) is not None


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
