"""What an event changed of that which is to outlive the daemon: what is to be written down."""

from __future__ import annotations

from dataclasses import dataclass, field

from lmxd.core.words import InstanceId, LeaseId


@dataclass(slots=True)
class Touched:
    """The ids of what an event brought, changed or took away."""

    instances: set[InstanceId] = field(default_factory=set)
    leases: set[LeaseId] = field(default_factory=set)
    yields: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.instances or self.leases or self.yields)
