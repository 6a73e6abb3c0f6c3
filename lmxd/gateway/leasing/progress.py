"""The standing of a request until it is answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lmxd.rpc.notifications import Progress


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestProgress:
    """The place of a request in the queue from 1, seconds until its turn if known, and the instances that it waits for.

    ``asked``: lmxd has not said yet whether it must wait. ``served``: it has its lease.
    """

    state: Literal["asked", "queued", "starting", "served"] = "asked"
    position: int = 0
    eta: float | None = None
    instances: tuple[str, ...] = ()

    @classmethod
    def of(cls, told: Progress) -> RequestProgress:
        instances = (told.instance,) if told.instance else tuple(told.waits_for)
        return cls(state=told.state, position=told.position, eta=told.eta, instances=instances)

    def __str__(self) -> str:
        return self.after(0.0)

    def after(self, seconds: float) -> str:
        """The standing in words, as it is so many seconds later."""
        words: list[str] = [self.state]
        words += [f"position={self.position}"] if self.position else []
        words += [] if self.eta is None else [f"eta={max(0.0, self.eta - seconds):.0f}"]
        words += [f"instances={','.join(self.instances)}"] if self.instances else []
        return " ".join(words)
