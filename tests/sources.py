"""Sources as syntax trees, for the tests that read the code rather than run it."""

from __future__ import annotations

import ast
import gc
from functools import cache
from pathlib import Path


def parse(source: str) -> ast.Module:
    """The tree of a text.

    Nothing is collected meanwhile. A task that an earlier test left behind would print a traceback as it goes, for
    which Python 3.11 parses, too, and then takes its own depth for wrong (CPython issue 106905).
    """
    gc.disable()
    try:
        return ast.parse(source)
    finally:
        gc.enable()


@cache
def parsed(path: Path) -> ast.Module:
    """The tree of a file."""
    return parse(path.read_text())


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """All of a file's tree."""
    return tuple(ast.walk(parsed(path)))
