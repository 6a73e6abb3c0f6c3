"""Messages of ``why``: the owner of each byte of a device. Bytes are ``int`` bytes."""

from __future__ import annotations

from pydantic import Field

from lmxd.rpc.books import Device
from lmxd.rpc.messages import DeviceNames, Name, Params, Result
from lmxd.rpc.shortfalls import SwapInfo


class WhyParams(Params):
    """The device that is asked about."""

    device: Name = Field(description="a device as it is configured, its UUID, the beginning of that, or host")


class OwnerInfo(Result):
    """An instance of lmxd's. ``bytes`` is its charge, the larger of the bytes promised and measured."""

    instance: str
    bytes: int
    promised: int
    measured: int
    pid: int | None = None
    swap: SwapInfo | None = Field(None, description="for whom it is to make way, and when")
    exited: bool = Field(description="it is gone, and the device does not show its bytes free yet")


class ProcessInfo(Result):
    """A process that is not lmxd's. Its name is the kernel's, at most 15 characters."""

    pid: int
    name: str
    bytes: int


class Why(Result):
    """The owners of all bytes of a device.

    capacity = instances + device.foreign + device.margin + withheld + device.headroom + device.beyond_pool.
    """

    device: Device
    instances: list[OwnerInfo]
    processes: list[ProcessInfo] = Field(description="of what is foreign, the largest that can be told apart")
    withheld: int = Field(description="bytes beyond max_memory_gb")
    called: DeviceNames = Field({})
