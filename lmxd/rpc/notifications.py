"""Messages that the daemon sends without a call. Times are seconds."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar, Final, Literal

from pydantic import ConfigDict, Field

from lmxd.rpc.messages import Granted, Result
from lmxd.rpc.shortfalls import ShortfallInfo, TurnInfo


class Notification(StrEnum):
    """The names of all notifications, as they are on the wire."""

    PROGRESS = "lmxd.progress"
    YIELD = "lmxd.yield"
    WANTED = "lmxd.wanted"
    LEASE_ENDED = "lmxd.lease_ended"
    MOVED = "lmxd.moved"
    SHRUNK = "lmxd.shrunk"
    PUT_BY = "lmxd.put_by"
    EVENT = "lmxd.event"


class Notice(Result):
    """The parameters of one notification."""

    notification: ClassVar[Notification]


class Progress(Notice):
    """``lmxd.progress`` reports the place of a waiting request, when it has changed."""

    notification = Notification.PROGRESS
    request: str | int | float | None
    ticket: str
    position: int
    state: Literal["queued", "starting"]
    eta: float | None = Field(None, description="seconds until the lease is expected; null where nothing can be said")
    waits_for: list[str] = Field([], description="instances that must end or have a slot, or a quota")
    instance: str | None = None
    loaded: float | None = Field(None, description="the part of its bytes that the starting instance has taken")
    shortfalls: list[ShortfallInfo] = Field([])
    turns: list[TurnInfo] = Field([], description="the instances that it waits for and others use: how long they go on")


class LeaseEnded(Notice):
    """``lmxd.lease_ended`` reports the end of a lease of this connection, unless its holder released it."""

    notification = Notification.LEASE_ENDED
    lease: str
    instance: str
    reason: str
    detail: str = ""


class Moved(Notice):
    """``lmxd.moved`` reports that a lease of this connection is on another instance, unless its ``grow`` says so."""

    notification = Notification.MOVED
    lease: str
    granted: Granted
    before: str = Field(description="the instance that it was on")
    why: Literal["grown", "shrunk", "returned"] = Field(
        description="it has more context, or an idle one less; returned: as before, for the larger one could not be had"
    )


class InstanceShrunk(Notice):
    """``lmxd.shrunk`` tells who asks for leases with ``reuse`` that an idle instance is another, with less context."""

    notification = Notification.SHRUNK
    model: str
    before: str = Field(description="the instance that it was")
    instance: str = Field(description="the one that it is now; the same as long as it is about to end")
    ctx: int
    instance_slots: int
    slots: list[tuple[int, int]] = Field(description="slots of the one before, and where what they had lies now")


class ConversationPutBy(Notice):
    """``lmxd.put_by`` tells who asks for leases with ``reuse`` that what it left in a slot is in a file."""

    notification = Notification.PUT_BY
    model: str
    instance: str
    slot: int = Field(description="the slot, which is about to have another conversation, or to end")
    kept: str = Field(description="the name of what it had, to be read back by ``shelve``")


class YieldAsked(Notice):
    """``lmxd.yield`` asks a holder to release its lease ``within`` seconds; null: it may be kept after all."""

    notification = Notification.YIELD
    lease: str
    instance: str
    within: float | None = None
    why: str


class SomebodyWaits(Notice):
    """``lmxd.wanted`` tells who asks for leases with ``reuse`` that somebody waits: each served its last request."""

    notification = Notification.WANTED


class Happened(Notice):
    """``lmxd.event`` reports one decision of the daemon to clients that called ``lmxd.watch``."""

    notification = Notification.EVENT
    event: str
    at: float = Field(description="seconds since the epoch")
    model_config = ConfigDict(extra="allow", frozen=True)


NOTIFICATIONS: Final[Mapping[Notification, type[Notice]]] = {
    notice.notification: notice
    for notice in (Progress, YieldAsked, SomebodyWaits, LeaseEnded, Moved, InstanceShrunk, ConversationPutBy, Happened)
}
