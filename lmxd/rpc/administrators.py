"""Messages of administrators: what they stop, pin, drain and read anew."""

from __future__ import annotations

from pydantic import Field

from lmxd.rpc.messages import InstanceParams, Params, Result


class PinParams(InstanceParams):
    """The instance to pin or unpin."""

    pin: bool = Field(True, description="false: as others again")


class DrainParams(Params):
    """The drain to begin or to end."""

    now: bool = Field(False, description="end everything at once, with its leases and whatever it is doing")
    end: bool = Field(False, description="instead: admit requests again")


class Stopped(Result):
    """The instance that is being stopped."""

    instance: str


class Pinned(Result):
    """The instance, and whether it is pinned."""

    instance: str
    pin: bool


class Drained(Result):
    """The state of a drain: the number of instances and leases that are left."""

    draining: bool
    instances: int = Field(description="what still runs")
    leases: int


class Reloaded(Result):
    """The file of the configuration that was read, and warnings about it."""

    path: str
    warnings: list[str] = Field([])
