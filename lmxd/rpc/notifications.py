"""What the daemon says without being asked. Times are seconds."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from lmxd.rpc.messages import Result, ShortfallInfo, TurnInfo


class Progress(Result):
    """``lmxd.progress``: where a waiting request stands."""

    request: str | int | float | None
    ticket: str
    position: int
    state: Literal["queued", "starting"]
    eta: float | None = Field(None, description="seconds until the lease is expected; null where nothing can be said")
    waits_for: list[str] = Field([], description="instances that must end or have a slot, or a quota")
    instance: str | None = None
    loaded: float | None = Field(None, description="the part of its bytes that the starting instance has taken")
    shortfalls: list[ShortfallInfo] = Field([])
    turns: list[TurnInfo] = Field([], description="of what it waits for, what others use")


class LeaseEnded(Result):
    """``lmxd.lease_ended``: a lease of this connection ended, other than by its release."""

    lease: str
    instance: str
    reason: str
    detail: str = ""


class YieldAsked(Result):
    """``lmxd.yield``: a lease should be released ``within`` seconds; null: it may be kept after all."""

    lease: str
    instance: str
    within: float | None = None
    why: str


class Happened(Result):
    """``lmxd.event``, to those who watch: one decision of the daemon."""

    event: str
    at: float = Field(description="seconds since the epoch")
    model_config = ConfigDict(extra="allow", frozen=True)
