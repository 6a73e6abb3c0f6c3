"""Small files of the kernel, and the numbers in them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_MOST: Final = 2**50
"""No device has a PiB: a counter that went below zero, or an answer of a card that is gone (all bits set)."""


def text(path: Path) -> str:
    """A small file without the white space around. Raises OSError."""
    return path.read_text(errors="replace").strip()


def text_or_nothing(path: Path) -> str:
    """The same; empty if the file cannot be read."""
    try:
        return text(path)
    except OSError:
        return ""


def entries(folder: Path) -> list[Path]:
    """The entries of a directory, by name; none if it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def target(link: Path) -> str:
    """The target of a link as it is written; empty if there is none. Raises PermissionError."""
    try:
        return str(link.readlink())
    except PermissionError:
        raise
    except OSError:
        return ""


def number(word: str, base: int = 10) -> int:
    """A count as the kernel writes it. Raises ValueError for all that cannot be one."""
    if not word.isascii() or not word.isalnum():  # int() takes signs, spaces and underscores too
        raise ValueError(f"{word[:40]!r} is no number")
    value = int(word, base)
    if value > _MOST:
        raise ValueError(f"{word[:40]} bytes cannot be")
    return value


def pairs(path: Path, separator: str) -> dict[str, str]:
    """The lines of a file as names and values; empty if it cannot be read."""
    lines = (line.partition(separator) for line in text_or_nothing(path).splitlines())
    return {name.strip(): value.strip() for name, found, value in lines if found}


def count(words: dict[str, str], name: str) -> int:
    """A count among such pairs; 0 if there is none that can be read."""
    try:
        return number(words.get(name, ""))
    except ValueError:
        return 0
