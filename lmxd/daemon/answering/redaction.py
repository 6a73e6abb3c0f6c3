"""Texts about everybody become texts for one user: ids of other users' requests and leases are left out."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

_ID: Final = re.compile(r"\b(?P<id>(?P<kind>[tl])-[0-9a-f]{8})\b(?: \([^()]*\))?")
"""A request or a lease as the core names it, with its model."""
_INSTEAD: Final = {"t": "another user's request", "l": "another user's lease"}


def redacted(text: str, sees: Callable[[str], bool]) -> str:
    """The same text without the ids that its reader may not see."""
    return _ID.sub(lambda found: found[0] if sees(found["id"]) else _INSTEAD[found["kind"]], text)
