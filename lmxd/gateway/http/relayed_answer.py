"""The answer to one request, as whoever hands it on to a client reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from lmxd.errors import LmxdError
from lmxd.gateway.http.edges import Edges
from lmxd.gateway.http.http1 import Head


class RelayedAnswer(Protocol):
    """An answer whose head has come: of one exchange with an instance, or put together of several."""

    @property
    def renamed(self) -> bool:
        """Its engine calls its model otherwise than its profile does."""

    @property
    def edges(self) -> Edges:
        """Both ends of what was handed on of it."""

    @property
    def between_chunks(self) -> bool:
        """The body so far ends with a chunk, so that another may follow."""

    def hand_to(self, to: Callable[[bytes], object]) -> None:
        """Hand the body to ``to``, which may raise BadAnswer: at once what there is of it, and the rest as it comes."""

    async def body(self, to: Callable[[bytes], object]) -> bool:
        """The same, to its end; whether it came to that."""

    async def ended(self) -> bool:
        """Whether the body that is handed on came to its end."""

    def pause(self) -> None:
        """Read no more of it until ``resume``."""

    def resume(self) -> None:
        """Read on."""

    def broken_off(self) -> LmxdError:
        """The reason why it is not whole."""

    def outcome(self, head: Head) -> int:
        """The status by which to count it."""

    def close(self) -> None:
        """Nobody listens any longer."""
