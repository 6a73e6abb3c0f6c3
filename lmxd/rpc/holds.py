"""Messages about bytes for others: holds for any process, and yields of devices. Bytes are ``int`` bytes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lmxd.rpc.messages import DeviceNames, Name, Params, Result, Terms

YieldTime = Annotated[float, Field(gt=0, le=10**9, allow_inf_nan=False)]
Pid = Annotated[int, Field(ge=2, le=2**22)]
"""The kernel's own bound: PID_MAX_LIMIT of linux/threads.h."""
Bytes = Annotated[int, Field(gt=0, le=2**60)]


class HoldParams(Terms):
    """A request for bytes on one device, for a process that is not lmxd's."""

    bytes: Bytes
    device: Name | None = Field(None, description="a device as for why; by default the one that it fits best")
    name: str = Field("hold", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$", description="what it is called in ps")
    pid: Pid | None = Field(None, description="as for adopt, at once")


class Held(Result):
    """A granted hold.

    ``environment``: variables that show the process its device, and hide the others; empty if none can.
    ``cuda_visible_devices``: the one of them for NVIDIA.
    """

    lease: str
    instance: str
    devices: dict[str, int]
    called: DeviceNames = Field({})
    cuda_visible_devices: str
    environment: dict[str, str] = Field(default_factory=dict)
    hold: str
    ttl: float | None = None
    waited: float


class AdoptParams(Params):
    """The process that uses a hold."""

    lease: Name
    pid: Pid = Field(description="what it and its children take is charged to the hold; its end ends the lease")


class Adopted(Result):
    """The process that is charged to the hold from now on."""

    lease: str
    pid: int


class YieldParams(Params):
    """The bytes of a device to keep free for others."""

    bytes: Bytes
    device: Name | None = Field(None, description="as for why; may be left out where there is only one")
    lasts: YieldTime = Field(3600, description="seconds after which the bytes may be used again")


class YieldBegun(Result):
    """A yield that has begun. ``free``: bytes that are free now; instances were asked to end for the rest."""

    id: str
    device: str
    bytes: int
    lasts: float
    free: int
    called: DeviceNames = Field({})


class YieldInfo(Result):
    """A yield that goes on. Its id is what ends it sooner."""

    id: str
    device: str
    bytes: int
    ends_in: float = Field(description="seconds after which the bytes may be used again")


class UnyieldParams(Params):
    """The yield to end."""

    id: Name


class YieldOver(Result):
    """The yield that has ended."""

    id: str
