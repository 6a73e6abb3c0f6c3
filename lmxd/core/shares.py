"""What each uid has and had: for quotas, and for a fair order between uids.

Use is byte-seconds, halved every ``half_life`` seconds; its integral over a constant holding
of B bytes for t seconds is B * h/ln 2 * (1 - 2**(-t/h)).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log
from typing import Final

from lmxd.core.rules import Policy

_LN2: Final = log(2)


@dataclass(kw_only=True, slots=True)
class Share:
    """``leases`` counts those being started, too. ``use`` is byte-seconds as of ``at``."""

    at: float
    bytes: int = 0
    leases: int = 0
    waiting: int = 0
    use: float = 0.0

    def settle(self, now: float, half_life: float) -> None:
        """Bring ``use`` up to ``now``."""
        left = 2.0 ** (-(now - self.at) / half_life)
        self.use = self.use * left + self.bytes * half_life / _LN2 * (1 - left)
        self.at = now


@dataclass(slots=True)
class Shares:
    """By uid. ``total`` is the use of all, each by its weight, as of the last settling."""

    by_uid: dict[int, Share] = field(default_factory=dict)
    total: float = 0.0

    def of(self, uid: int, now: float) -> Share:
        if uid not in self.by_uid:
            self.by_uid[uid] = Share(at=now)
        return self.by_uid[uid]

    def take(self, uid: int, size: int, now: float, policy: Policy) -> None:
        share = self.of(uid, now)
        share.settle(now, policy.half_life)
        share.bytes += size
        share.leases += 1

    def give_back(self, uid: int, size: int, now: float, policy: Policy) -> None:
        share = self.of(uid, now)
        share.settle(now, policy.half_life)
        share.bytes -= size
        share.leases -= 1

    def settle(self, now: float, policy: Policy) -> None:
        """Bring all up to ``now``, and forget who has nothing and used next to nothing."""
        for uid, share in list(self.by_uid.items()):
            share.settle(now, policy.half_life)
            if not share.leases and not share.waiting and share.use < 1.0:
                del self.by_uid[uid]
        self.total = sum(s.use / policy.quota(uid).weight for uid, s in self.by_uid.items())

    def lateness(self, uid: int, policy: Policy) -> float:
        """Seconds by which ``uid`` stands behind one who used nothing: its part of all use, by its weight."""
        share = self.by_uid.get(uid)
        if share is None or self.total <= 0:
            return 0.0
        return policy.fairness * min(1.0, share.use / policy.quota(uid).weight / self.total)

    def within(self, uid: int, size: int, policy: Policy) -> str | None:
        """Which quota one more lease of ``size`` bytes would exceed now, in words; None if none."""
        quota = policy.quota(uid)
        if quota.max_leases is None and quota.max_bytes is None:
            return None
        share = self.by_uid.get(uid)
        held, leases = (share.bytes, share.leases) if share else (0, 0)
        if quota.max_leases is not None and leases + 1 > quota.max_leases:
            return f"uid {uid} has {leases} of at most {quota.max_leases} leases"
        if quota.max_bytes is not None and held + size > quota.max_bytes:
            return f"uid {uid} holds {held} of at most {quota.max_bytes} bytes, and this takes {size}"
        return None
