"""JSON as others say it: whatever is wrong with it is a ValueError."""

from __future__ import annotations

from typing import TypeVar

import msgspec

_T = TypeVar("_T")


def read(said: bytes, kind: type[_T]) -> _T:
    """The value that was said, of that type. ValueError if it is something else, no text, or nested too deeply."""
    try:
        return msgspec.json.decode(said, type=kind)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
