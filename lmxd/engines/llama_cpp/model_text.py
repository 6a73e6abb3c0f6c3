"""Tells whether a text may be the model's own: llama-server prints names, keys and tokens of a file as they are.

With line breaks in them they look like lines of llama-server itself, and no prefix or place tells them apart. So a
phrase counts only if the file does not say it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Final

from lmxd.estimate.files import headers
from lmxd.gguf.header import MAX_HEADER

_SPACES: Final = ("\u0120".encode(), "\u2581".encode())
"""They stand for a space in the tokens of a vocabulary. All other characters of a phrase stand for themselves."""
_CHUNK: Final = 2**20
_OVERLAP: Final = 512
"""Bytes that are looked at twice where two pieces of a file meet: more than any phrase has."""


def said(model: Path | None, phrases: Iterable[str]) -> frozenset[str]:
    """The phrases that the model's file has in its header, in whatever case. May take a tenth of a second.

    A file that cannot be read may have had all of them.
    """
    asked = frozenset(phrases)
    if model is None or not asked:
        return frozenset()
    try:
        return frozenset().union(*(_said(path, _state(path), size, asked) for path, size in headers(model).items()))
    except OSError:
        return asked


def _state(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


@lru_cache(256)
def _said(path: Path, _state: tuple[int, int, int], size: int, phrases: frozenset[str]) -> frozenset[str]:
    wanted = {phrase: phrase.lower().encode() for phrase in phrases}
    found: set[str] = set()
    with path.open("rb") as file:
        left, before = min(size, MAX_HEADER), b""
        while left > 0 and (chunk := file.read(min(_CHUNK, left))):
            text = (before + chunk).lower()
            for space in _SPACES:
                text = text.replace(space, b" ")
            found |= {phrase for phrase, word in wanted.items() if word in text}
            left, before = left - len(chunk), chunk[-_OVERLAP:]
    return frozenset(found)
