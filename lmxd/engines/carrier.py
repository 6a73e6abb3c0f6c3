"""The contract of an engine whose conversations can be carried to another of its instances."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from lmxd.engines.engine import Endpoint


class SlotUse(NamedTuple):
    """The tokens in a slot, and those that its last prompt found there already: few, if another conversation came.

    ``task``: a number that is another for each request. ``busy``: an answer is being written into it.
    """

    tokens: int
    kept: int
    task: int = 0
    busy: bool = False


class SavedSlot(NamedTuple):
    """The tokens that were written of a slot, and the bytes of the file; None if its engine does not say these."""

    tokens: int
    size: int | None


@runtime_checkable
class Carrier(Protocol):
    """An engine that has the conversations of a slot each, and writes and reads what is in one to and from a file.

    Files are named without their directory, which is ``Plan.prompts``.
    """

    async def used(self, endpoint: Endpoint) -> tuple[SlotUse | None, ...] | None:
        """The use of each slot; None in place of that of one that is at a prompt. None if it does not say."""
        ...

    async def save_slot(self, endpoint: Endpoint, slot: int, file: str) -> SavedSlot | None:
        """Write what a slot has, once it is done with what it is at. None: it was not saved."""
        ...

    async def restore_slot(self, endpoint: Endpoint, slot: int, file: str) -> int | None:
        """Read a whole file into a slot, for one that is cut may end the engine.

        The tokens; None: it was not read, and what the slot has now is not known.
        """
        ...

    async def erase_slot(self, endpoint: Endpoint, slot: int) -> bool:
        """Empty a slot; whether it says that it did."""
        ...

    async def seconds_a_token(self, endpoint: Endpoint) -> float | None:
        """How long it took to process a token of a prompt, in the mean. None if it does not say."""
        ...

    def fit(self, file: Path, streams: int) -> bool:
        """Make a saved file one for so many caches beside each other. False: it cannot be. Raises OSError."""
        ...
