"""The node that served a conversation last: its engine has the prompt in its cache."""

from __future__ import annotations

import hashlib
from typing import Final

_MOST: Final = 65536
"""Conversations that are remembered."""


def session_of(user: str, model: str, first: bytes) -> str:
    """The name of a conversation: its user, its model, and its first message, as a digest of 128 bits."""
    whole = b"\0".join((user.encode(), model.encode(), first))
    return hashlib.blake2b(whole, digest_size=16).hexdigest()


class Sessions:
    """Conversation -> node; the ones that were not continued for longest are forgotten first."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._nodes: dict[str, str] = {}

    def home(self, session: str) -> str | None:
        """The node that served a conversation last; None if nobody knows."""
        return self._nodes.get(session)

    def served(self, session: str, node: str) -> None:
        """Note the node that answered. A request without a session is not noted."""
        if not session:
            return
        self._nodes.pop(session, None)
        self._nodes[session] = node
        if len(self._nodes) > self._most:
            del self._nodes[next(iter(self._nodes))]
