"""A request as another gateway says that hands it on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Stated:
    """A request as the fleet's gateway knows it; by itself it is nothing that another gateway handed on.

    ``waited``: seconds that it has waited elsewhere, which count in the queue here, too. ``used_elsewhere``: recent
    byte-seconds of its user at other nodes; ``weight``: that user's. None: as it is known here.
    """

    waited: float = 0.0
    used_elsewhere: float | None = None
    weight: float | None = None


UNSTATED = Stated()
