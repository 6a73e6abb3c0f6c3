"""The rules of admission as they are configured, and what should run whether somebody asks or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lmxd.core.words import Ask


@dataclass(frozen=True, kw_only=True, slots=True)
class Quota:
    """What one uid may have at once, or the members of a group together; ``weight``: how much a uid counts."""

    weight: float = 1.0
    max_bytes: int | None = None
    max_leases: int | None = None
    max_waiting: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """``enforce`` False starts everything at once and only keeps the books.

    ``aging``: seconds of waiting that are worth one class of priority. ``fairness``: seconds by which who used all
    stands behind who used nothing; ``half_life``: seconds after which use counts half.
    ``quantum_loads``: for how many times what the two loads take an instance goes on serving though others
    wait for its bytes.
    ``grace``: seconds that a holder has who was asked to yield; ``preempt``: whether a higher
    class may ask a lower one; ``cut``: whether that ends what is being generated.
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
    default: Quota = Quota()
    quotas: Mapping[int, Quota] = field(default_factory=dict)
    group_quotas: Mapping[int, Quota] = field(default_factory=dict)

    def quota(self, uid: int) -> Quota:
        return self.quotas.get(uid, self.default)


@dataclass(frozen=True, kw_only=True, slots=True)
class Resident:
    """``keep`` instances of a profile always run; ``preload``: one is started when lmxd is, and then is like any."""

    ask: Ask
    keep: int = 0
    preload: bool = False
