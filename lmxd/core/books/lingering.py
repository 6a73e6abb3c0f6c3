"""Leases that are over and go on counting: their instance works still, or may, for who has its key."""

from __future__ import annotations

from lmxd.core.books.shares import Shares
from lmxd.core.instances import Instance
from lmxd.core.rules import Policy
from lmxd.core.words import InstanceId, Owner


class Lingering(dict[InstanceId, Instance]):
    """Instances without a lease that work, or may: the last lease counts for its user's quota and use."""

    def begin(self, instance: Instance, shares: Shares, now: float, policy: Policy) -> None:
        """Let the last lease of an instance go on counting, if it had one and does not yet."""
        if instance.last_use is not None and instance.id not in self:
            self[instance.id] = instance
            shares.take(instance.last_use.owner, instance.last_use.size, now, policy)

    def end(self, instance: Instance, shares: Shares, now: float, policy: Policy) -> None:
        """Let it count no more."""
        if self.pop(instance.id, None) is not None and instance.last_use is not None:
            shares.give_back(instance.last_use.owner, instance.last_use.size, now, policy)

    def is_of(self, instance: Instance, owner: Owner) -> bool:
        """Whether a lease of the same user lingers on an instance."""
        if instance.id not in self or instance.last_use is None:
            return False
        last = instance.last_use.owner
        return (last.who, last.gids) == (owner.who, owner.gids)
