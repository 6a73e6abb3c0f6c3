"""The keys of the configuration for quotas: of users, of groups, and of keys of the gateway."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lmxd.config.section import Gigabytes, Section

Weight = Annotated[float, Field(gt=0, le=1000)]


class UserConfig(Section):
    """The quota of one user. Administrators are bound by it as everybody is, but for max_priority."""

    weight: Weight = Field(1, description="share of the machine beside the others")
    max_memory_gb: Gigabytes | None = Field(None, description="the most that the user's leases may take together")
    max_leases: int | None = Field(None, ge=0, le=100_000, description="leases at once; beyond 1024 only if set")
    max_holds: int = Field(128, ge=0, le=100_000, description="holds at once, those that wait included")
    max_waiting: int | None = Field(None, ge=0, le=100_000, description="requests that may wait at once")
    max_priority: int = Field(0, ge=-100, le=100, description="the highest class that may be asked for")


class KeyConfig(Section):
    """The quota of one key of the gateway, within that of the user that the gateway runs as."""

    weight: Weight = Field(1, description="share of the machine beside the other keys")
    max_memory_gb: Gigabytes | None = Field(None, description="the most that the key's leases may take together")
    max_leases: int | None = Field(None, ge=0, le=100_000, description="requests that are served at once")
    max_waiting: int | None = Field(None, ge=0, le=100_000, description="requests that may wait at once")
    max_priority: int | None = Field(
        None, ge=-100, le=100, description="the highest class that may be asked for; by default the gateway's user's"
    )


class GroupConfig(Section):
    """The quota of the members of one group, all together."""

    max_memory_gb: Gigabytes | None = Field(None, description="the most that their leases may take together")
    max_leases: int | None = Field(None, ge=0, le=100_000, description="leases at once")
    max_waiting: int | None = Field(None, ge=0, le=100_000, description="requests that may wait at once")
