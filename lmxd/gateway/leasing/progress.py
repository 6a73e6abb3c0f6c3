"""The standing of a request until it is answered."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from lmxd.rpc.notifications import Progress
from lmxd.text import sentence_among


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestProgress:
    """The place of a request in the queue from 1, seconds until its turn if known, and the instances that it waits for.

    ``why``: the limit of its key or user that it waits for.
    ``asked``: lmxd has not said yet whether it must wait. ``growing``: it has a lease, which moves to an instance with
    more context. ``served``: it has its lease.
    """

    state: Literal["asked", "queued", "starting", "growing", "served"] = "asked"
    position: int = 0
    eta: float | None = None
    instances: tuple[str, ...] = ()
    why: str | None = None

    @classmethod
    def of(cls, told: Progress) -> RequestProgress:
        why = sentence_among(told.waits_for)
        named = (told.instance,) if told.instance else tuple(name for name in told.waits_for if name != why)
        return cls(state=told.state, position=told.position, eta=told.eta, instances=named, why=why)

    def __str__(self) -> str:
        return self.after(0.0)

    def after(self, seconds: float) -> str:
        """The standing in words, as it is so many seconds later."""
        words: list[str] = [self.state]
        words += [f"position={self.position}"] if self.position else []
        words += [] if self.eta is None else [f"eta={max(0.0, self.eta - seconds):.0f}"]
        words += [f"instances={','.join(self.instances)}"] if self.instances else []
        words += [f"why={json.dumps(self.why)}"] if self.why else []
        return " ".join(words)
