"""A client's request as a fleet sees it: what is sought, and what a node is sent."""

from __future__ import annotations

from dataclasses import dataclass

from lmxd.fleet import names
from lmxd.fleet.choosing.prospects import Sought
from lmxd.gateway.http.upstream_call import UpstreamCall


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """One request. ``user``: whose key; ``wait``: the most seconds in queues; ``since``: when it came, monotonic."""

    sought: Sought
    call: UpstreamCall
    user: str | None
    wait: float | None
    since: float

    def left(self, now: float) -> float | None:
        """Seconds that it may still wait."""
        return None if self.wait is None else max(0.0, self.wait - (now - self.since))

    def lines(self, now: float, wait: float | None) -> list[str]:
        """The lines of a request's head by which a node knows for whom it is, and how long it may wait there."""
        lines = [f"{names.WAITED}: {now - self.since:.3f}"]
        lines += [] if self.user is None else [f"{names.USER}: {self.user}"]
        return [*lines] if wait is None else [*lines, f"Prefer: wait={int(wait)}"]
