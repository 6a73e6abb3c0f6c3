"""The names of a split GGUF file's parts: ``NAME-00001-of-00003.gguf``."""

from __future__ import annotations

import re

_PART = re.compile(r"^(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf$", re.DOTALL)
MAX_PARTS = 1_000
"""More than any model has. A name is not trusted to ask for more reads."""


def part_number(path: str) -> tuple[int, int] | None:
    """(number, count) of a part, counted from 1; None if the name is not that of a part."""
    match = _PART.match(path)
    return (int(match["number"]), int(match["count"])) if match else None


def part_names(path: str, count: int) -> list[str]:
    """All parts of the split that ``path`` is a part of. ValueError if its name does not say so."""
    match = _PART.match(path)
    if match is None or int(match["count"]) != count or not 1 <= count <= MAX_PARTS:
        raise ValueError(
            f"{path} says that it is one of {count} parts, but its name is not NAME-00001-of-{count:05}.gguf"
        )
    return [f"{match['stem']}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1)]
