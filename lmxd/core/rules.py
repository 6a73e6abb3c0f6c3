"""The rules of admission as they are configured, and the models that run without a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lmxd.core.words import Ask, User


@dataclass(frozen=True, kw_only=True, slots=True)
class Quota:
    """The most that one uid, one key, or the members of a group together, may have at once.

    ``weight``: the use of a uid or key with weight 2 counts half. ``max_holds`` is of each uid by itself.
    """

    weight: float = 1.0
    max_bytes: int | None = None
    max_leases: int | None = None
    max_holds: int | None = 128
    max_waiting: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """The configured rules of admission.

    ``enforce``: False starts every request at once and only keeps the ledger. ``aging``: seconds of waiting that are
    worth one class of priority. ``fairness``: seconds by which a user with all recent use stands behind one with none.
    ``half_life``: seconds after which use counts half. ``quantum_loads``: the length of a turn, in loads of both models
    (2.65: docs/adr/0015). ``grace``: seconds within which a holder should yield. ``preempt``: whether a higher class
    may ask a lower one to yield. ``cut``: whether a generation is cut when the grace is over. ``waited_elsewhere``: the
    most seconds that a request stands earlier, since it has waited at other nodes. ``quotas``: by uid. ``key_quotas``:
    by the name of a key, for which the gateway asks.
    """

    queue_depth: int = 5
    enforce: bool = True
    aging: float = 60.0
    fairness: float = 60.0
    half_life: float = 3600.0
    quantum_loads: float = 2.65
    preempt: bool = True
    grace: float = 60.0
    cut: bool = False
    waited_elsewhere: float = 300.0
    default: Quota = Quota()
    quotas: Mapping[int, Quota] = field(default_factory=dict)
    group_quotas: Mapping[int, Quota] = field(default_factory=dict)
    key_quotas: Mapping[str, Quota] = field(default_factory=dict)
    default_key: Quota = Quota()

    def quota(self, uid: int) -> Quota:
        return self.quotas.get(uid, self.default)

    def key_quota(self, key: str) -> Quota:
        """The quota of one key, beside that of the uid that asks for it."""
        return self.key_quotas.get(key, self.default_key)

    def weight(self, user: User, stated: float | None = None) -> float:
        """The weight of a user: that of its uid, and of its key among the keys of that uid, or what a fleet states."""
        uid, key = user
        own = self.key_quota(key).weight if key else 1.0
        return self.quota(uid).weight * (own if stated is None else stated)


@dataclass(frozen=True, kw_only=True, slots=True)
class Resident:
    """A model that runs without a request: always (``keep`` instances of it), or from the start (``preload``).

    ``preload`` starts one instance when lmxd starts, which may be evicted like any other.
    """

    ask: Ask
    keep: int = 0
    preload: bool = False
