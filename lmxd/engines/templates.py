"""Words of a ``command`` and its ``env``: the places in them that are filled in when it is started."""

from __future__ import annotations

from string import Formatter
from typing import Final

IN_COMMAND: Final = frozenset(
    "port socket device memory_fraction memory_fraction_of_free memory_fraction_with_used memory_mb"
    " model ctx slots name key_file".split()
)
IN_ENV: Final = IN_COMMAND | {"key"}
"""A key belongs on no command line: every user can read those."""


def places(*words: str) -> set[str]:
    """The places in some words. ValueError if a word is no template."""
    return {place for word in words for place in _places(word)}


def _places(word: str) -> set[str]:
    try:
        parts = [part for part in Formatter().parse(word) if part[1] is not None]
    except ValueError as error:
        raise ValueError(f"{word!r}: {error}; a brace itself is written twice") from error
    for _, name, form, conversion in parts:
        if form or conversion:
            raise ValueError(f"{word!r}: write {{{name}}} and nothing more in the braces")
    return {str(name) for _, name, _, _ in parts}


def check(words: tuple[str, ...], known: frozenset[str]) -> None:
    """ValueError if there is a place that is not known."""
    for word in words:
        if places(word) - known:
            raise ValueError(f"{word!r}: known are {', '.join('{' + name + '}' for name in sorted(known))}")
