"""Messages of ``overview``: everything that a screen shows, of one look at the devices."""

from __future__ import annotations

from pydantic import Field

from lmxd.rpc.books import InstanceInfo, MovingInfo, Status, TicketInfo
from lmxd.rpc.messages import Result
from lmxd.rpc.owners import Why


class Overview(Result):
    """The state of lmxd at one moment: the devices are measured once for all of it."""

    status: Status
    owners: list[Why] = Field(description="of the bytes of each device, in the order of the status")
    instances: list[InstanceInfo]
    moving: list[MovingInfo] = Field([], description="leases that have no instance while they move")
    queue: list[TicketInfo]
