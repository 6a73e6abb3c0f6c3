"""Tracebacks as lines: an exception's text never looks like one of them."""

from __future__ import annotations

from collections.abc import Iterator
from traceback import TracebackException
from typing import Final

from lmxd.text import escaped, shortened

_DEEPEST: Final = 8
"""Exceptions that are followed to what they came of. More would hide the line that matters."""
_LONGEST: Final = 4096
"""Characters of one line."""


def lines(error: BaseException) -> list[str]:
    """Each line of the traceback, with those of its causes before it."""
    told = TracebackException(type(error), error, error.__traceback__, compact=True)
    return [escaped(shortened(line, _LONGEST)) for line in _told(told, _DEEPEST)]


def _told(error: TracebackException, depth: int) -> Iterator[str]:
    earlier = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if earlier is not None and depth:
        yield from _told(earlier, depth - 1)
        yield "which led to:" if error.__cause__ else "and while that was handled:"
    yield "Traceback (most recent call last):"
    for frame in error.stack.format():
        yield from frame.rstrip("\n").split("\n")
    yield "".join(error.format_exception_only()).rstrip("\n")
    for inner in error.exceptions or () if depth else ():
        yield from (f"  | {line}" for line in _told(inner, depth - 1))
