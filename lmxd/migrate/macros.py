"""llama-swap's macros: snippets that stand in its values as ``${NAME}``, and variables as ``${env.NAME}``."""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Mapping
from typing import Any, Final

from lmxd.config.values import filled_if_set

_MACRO: Final = re.compile(r"\$\{([A-Za-z0-9_-]+)\}")
_DEEPEST: Final = 10
"""Levels of macros in macros."""
_LONGEST: Final = 32 * 2**10
"""Characters of a value."""
MOST: Final = 2 * 2**20
"""Characters that macros may come to in all values together."""


class Macros:
    """The macros of a file, and the characters that they may still come to: they multiply, and each model has them."""

    def __init__(self, found: Mapping[str, Any]) -> None:
        self._all = {str(name): value for name, value in found.items()}
        self.used: set[str] = set()
        self.room = MOST

    def filled(self, text: str, own: Mapping[str, Any]) -> str:
        """A text with its macros, which may hold macros. ValueError if it grows too long.

        ``own``: those of its model, which come before those of the file.
        """
        values = ChainMap({str(name): value for name, value in own.items()}, self._all)
        for _ in range(_DEEPEST):
            filled = self._once(filled_if_set(text), values)
            if filled == text:
                break
            text = filled
        return text

    def value(self, value: object, own: Mapping[str, Any]) -> object:
        """Any value with its macros; one that is a macro alone has its kind. ValueError as above."""
        if isinstance(value, list):
            return [self.value(item, own) for item in value]
        if isinstance(value, Mapping):
            return {self.value(key, own): self.value(item, own) for key, item in value.items()}
        if not isinstance(value, str):
            return value
        if (alone := _MACRO.fullmatch(value)) and not isinstance(own.get(alone[1], self._all.get(alone[1], "")), str):
            self.used.add(alone[1])
            return own.get(alone[1], self._all.get(alone[1]))
        return self.filled(value, own)

    def unused(self, among: Mapping[str, Any]) -> list[tuple[str, object]]:
        """The macros to which no value refers, as leaves."""
        return [(f"macros.{name}", value) for name, value in among.items() if str(name) not in self.used]

    def _once(self, text: str, values: Mapping[str, Any]) -> str:
        room = _LONGEST - len(text)

        def value(macro: re.Match[str]) -> str:
            nonlocal room
            found = values.get(macro[1], macro[0])
            self.used.add(macro[1])
            found = str(found).lower() if isinstance(found, bool) else str(found)
            room -= len(found)
            if room < 0:
                raise ValueError(f"with its macros it has more than {_LONGEST} characters")
            self.room -= len(found)
            if self.room < 0:
                raise ValueError(f"the macros of all models have more than {MOST} characters")
            return found

        filled = _MACRO.sub(value, text)
        if len(filled) > _LONGEST:
            raise ValueError(f"it has more than {_LONGEST} characters")
        return filled


def unknown(text: str) -> set[str]:
    """The macros that are still in a text, but those that are known when it runs alone."""
    return set(_MACRO.findall(text)) - {"PORT", "PID"}
