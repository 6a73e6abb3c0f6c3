"""The users of a fleet: their weight and limits, over all nodes together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import Field

from lmxd.config.quotas import Weight
from lmxd.config.section import GIB, Gigabytes, Section

DEFAULT: Final = "default"
"""The name that stands for all users who have no part of their own."""
UserName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._@+-]{1,64}$")]


class FleetUserConfig(Section):
    """The weight and limits of one user, who is whoever has a key of that name at a gateway of the fleet."""

    weight: Weight = Field(1, description="share of each node beside the other users, by what all nodes gave")
    max_memory_gb: Gigabytes | None = Field(None, description="the most that its requests may take at all nodes")
    max_leases: int | None = Field(None, ge=0, le=100_000, description="requests at all nodes at once")
    max_waiting: int | None = Field(None, ge=0, le=100_000, description="requests that may wait at once")

    @property
    def max_bytes(self) -> int | None:
        return None if self.max_memory_gb is None else int(self.max_memory_gb * GIB)

    @property
    def is_limited(self) -> bool:
        """Whether there is anything that it may not have more of."""
        return any(most is not None for most in (self.max_memory_gb, self.max_leases, self.max_waiting))


FleetUsers = Mapping[str, FleetUserConfig]


def user_of(users: FleetUsers, name: str) -> FleetUserConfig | None:
    """The part of a user; None if there is none for it."""
    return users.get(name, users.get(DEFAULT))
