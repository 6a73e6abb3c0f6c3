"""The reasons why a request waits: bytes that are missing, instances in use, and those that are to make way."""

from __future__ import annotations

from pydantic import Field

from lmxd.rpc.messages import DeviceNames, Result


class HolderInfo(Result):
    """An owner of bytes on a device: an instance, or ``foreign`` for all processes that are not lmxd's."""

    name: str
    bytes: int
    phase: str
    leases: int = 0
    since: float | None = Field(None, description="for so many seconds")


class ShortfallInfo(Result):
    """The reason why a request does not fit on a device: ``need`` bytes, of which ``have`` are free.

    ``ceiling`` is the most that lmxd could ever promise there.
    """

    device: str
    need: int
    have: int
    ceiling: int
    capacity: int
    holders: list[HolderInfo] = Field([])
    unavailable: str | None = None
    views: list[str] = Field([], description="of a pool: the devices that draw from it")
    remedy: str = ""
    called: DeviceNames = Field({})


class TurnInfo(Result):
    """An instance that a request waits for while others use it: for how long, and the cost of a swap."""

    instance: str
    closes_in: float = Field(description="seconds for which it takes new requests; 0: it finishes what it does")
    price: float = Field(description="seconds that loading both models takes")
    unused: bool = Field(
        False, description="nobody uses the leases on it, of which the last ends in closes_in seconds at the latest"
    )
    fair: bool = Field(False, description="its turn is longer, because its users had less than those who wait")


class SwapInfo(Result):
    """A swap: the instance is to make way for ``model``, which waits for its bytes."""

    model: str
    closes_in: float = Field(description="seconds for which it takes new requests; 0: it finishes what it does")
    price: float = Field(description="seconds that loading both models takes")
    unused: bool = Field(
        False, description="nobody uses the leases on it, of which the last ends in closes_in seconds at the latest"
    )
