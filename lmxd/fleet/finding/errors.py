"""The errors by which a node does not serve a request, so that another is asked, or none."""

from __future__ import annotations

from typing import Final

from lmxd.errors import LmxdError
from lmxd.gateway.requests.failures import StatusError

_AGAIN: Final = "ask again"
_ELSEWHERE: Final = frozenset((404, 429, 500, 502, 503))
"""Statuses of what another node may do better: it has that model, has room, or is well."""
_FULL: Final = 429


class Away(LmxdError):
    """The error for a node that could not be reached, or broke off before it answered: another is asked."""

    def __init__(self, node: str, why: object) -> None:
        super().__init__("stopped", f"node {node} does not answer: {why}", _AGAIN)
        self.node = node


class NodeRefusal(StatusError):
    """The error that a node answered with. ``status``: HTTP's."""

    def __init__(self, node: str, status: int, error: LmxdError) -> None:
        super().__init__(status, error.code, error.message, error.remedy)
        self.data = error.data
        self.node = node

    @property
    def elsewhere(self) -> bool:
        """Whether another node may do it."""
        return self.status in _ELSEWHERE or self.code == "never_fits"

    @property
    def is_full(self) -> bool:
        """The node has nothing for such a request now."""
        return self.status == _FULL
