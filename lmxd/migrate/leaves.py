"""The leaves of an input file, each of which is taken or said: nothing is lost in silence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from lmxd.text import shortened

_SECRET: Final = re.compile(r"(?i)api[-_]?keys?\b|token|secret|passw|\bkey\b")
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

    def keys(self) -> list[str]:
        return list(self._left)

    def take(self, key: str) -> Any:
        """The value of a key, or None: who takes it accounts for it."""
        return self._left.pop(key, None)

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
    """(path, scalar) of all that is in a value; an empty list or mapping is one, too."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from flat(f"{path}.{key}", inner)
    elif isinstance(value, list) and value:
        for number, inner in enumerate(value):
            yield from flat(f"{path}[{number}]", inner)
    else:
        yield path, value


def was(path: str, value: object) -> str:
    """The value of a leaf in words, for the end of a sentence. Secrets are not shown."""
    if value is None or value == [] or value == {} or value == "":
        return ""
    if is_secret(path) or (isinstance(value, str) and is_secret(value.partition("=")[0]) and "=" in value):
        return " (it is not shown)"
    return f" (it was {shortened(_plain(value), _LONGEST)})"


def is_secret(name: str) -> bool:
    """Whether a name is one of keys, tokens or passwords."""
    return _SECRET.search(name) is not None


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
