"""Metrics of leases that move to other instances: growths, their seconds, shrinks, and conversations carried along."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from lmxd.core.decisions import MoveLease, RefuseLease, StopInstance
from lmxd.core.moves import Move

_SECONDS = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800)
_RESULTS = {Move.GROWN: "moved", Move.RETURNED: "returned"}


class MoveCounts:
    """Counts what becomes of growths, and of the conversations of leases that move."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._growths = Counter(
            "lmxd_growths", "Growths of leases by what became of them.", ["model", "result"], registry=registry
        )
        self._seconds = Histogram(
            "lmxd_growth_seconds",
            "From the request for more context until the lease had it.",
            ["model"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._carried = Counter(
            "lmxd_conversations_carried",
            "Conversations of leases that moved: carried along, or processed anew.",
            ["model", "how"],
            registry=registry,
        )

        self._shrinks = Counter(
            "lmxd_shrinks",
            "Instances that gave back what they did not use: idle, or because somebody waited (wanted).",
            ["model", "why"],
            registry=registry,
        )

    def shrinks(self, model: str, stop: StopInstance) -> None:
        """Count an instance that ends so that a smaller one takes its place."""
        self._shrinks.labels(model, "idle" if stop.unasked else "wanted").inc()

    def moved(self, move: MoveLease) -> None:
        """Count a lease that has moved, or has more of its instance. One that has enough already has done neither."""
        if move.instance == move.before:
            if move.widened:
                self._growths.labels(move.profile, "widened").inc()
                self._seconds.labels(move.profile).observe(move.waited)
            return
        if (result := _RESULTS.get(move.move)) is not None:
            self._growths.labels(move.profile, result).inc()
        if move.move is Move.GROWN:
            self._seconds.labels(move.profile).observe(move.waited)
        self._carried.labels(move.profile, "carried" if move.carried else "processed").inc()

    def refused(self, refusal: RefuseLease) -> None:
        """Count a growth that was refused: its lease stays where it is."""
        self._growths.labels(refusal.ask.profile, "refused").inc()
