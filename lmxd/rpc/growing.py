"""Messages of ``grow``, by which a lease moves to an instance with a larger context. Times are seconds."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lmxd.rpc.messages import Apart, LeaseParams


class GrowParams(LeaseParams):
    """The lease that is to have a larger context, and how long that may take."""

    ctx: int = Field(ge=1, le=2**27, description="tokens that it must have; it gets the least step with so many")
    slot: int | None = Field(
        None,
        ge=0,
        le=255,
        description="the slot that its conversation lies in, for who is alone on its instance; by default the only "
        "one that there is, else it is processed anew",
    )
    apart: Apart = Field([])
    max_instances: Annotated[int, Field(ge=1, le=64)] | None = Field(
        None, description="of its model, where slots share one cache: as many as this run, and it waits for room in one"
    )
    carry: bool = Field(True, description="false: no conversation of it lies there that is worth carrying")
    wait: Annotated[float, Field(ge=0, le=10**9, allow_inf_nan=False)] | None = Field(
        None, description="seconds to wait in the queue; 0 for not at all; null for as long as it takes"
    )
    deadline: Annotated[float, Field(gt=0, le=10**9, allow_inf_nan=False)] | None = Field(
        None, description="seconds within which it must have moved; refused at once if that cannot be"
    )
