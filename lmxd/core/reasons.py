"""The reasons that clients are told: why a request was refused, and why a lease ended."""

from __future__ import annotations

from enum import StrEnum


class RefusalCode(StrEnum):
    """The stable code of a refusal. Each is the code of an error, too."""

    NEVER_FITS = "never_fits"
    """The request exceeds what the device could ever give it."""
    NO_CAPACITY = "no_capacity"
    """There is no room now, and the request would not wait."""
    QUEUE_FULL = "queue_full"
    """As many requests wait as may."""
    WAIT_EXPIRED = "wait_expired"
    """The request waited as long as it would."""
    OVER_QUOTA = "over_quota"
    """The user or the group has as much as it may have."""
    TOO_MANY_WAITING = "too_many_waiting"
    """The user has as many requests waiting as it may have."""
    DEADLINE = "deadline"
    """The lease cannot be granted by the deadline."""
    LAUNCH_FAILED = "launch_failed"
    """The instance failed to load, now or a short while ago."""
    STOPPED = "stopped"
    """The instance was stopped while it was starting."""
    DRAINING = "draining"
    """lmxd admits nothing new."""
    CANCELLED = "cancelled"
    """The request was taken out of the queue."""
    CLIENT_LEFT = "client_left"
    """The client closed its connection while its request waited."""


class EndReason(StrEnum):
    """The reason why a lease ended."""

    RELEASED = "released"
    """Its holder released it."""
    CONNECTION_CLOSED = "connection_closed"
    """The connection that held it was closed, and nobody came back for it."""
    TTL_EXPIRED = "ttl_expired"
    """Its holder did not renew it in time."""
    INSTANCE_EXITED = "instance_exited"
    """Its instance ended by itself."""
    IDLE_TIMEOUT = "idle_timeout"
    """Its instance did nothing for its `idle_timeout`."""
    STOPPED_BY_ADMIN = "stopped_by_admin"
    """An administrator stopped its instance."""
    DRAINING = "draining"
    """An administrator drains lmxd."""
    YIELDED = "yielded"
    """Its device is short of bytes, and its holder did not release it when asked to."""
    PREEMPTED = "preempted"
    """A request of a higher class takes its place, and its holder did not release it when asked to."""
