"""What each uid and group has and had: for quotas, and for a fair order between uids.

Use is byte-seconds, halved every ``half_life`` seconds; its integral over a constant holding
of B bytes for t seconds is B * h/ln 2 * (1 - 2**(-t/h)).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import log
from typing import Final

from lmxd.core.rules import Policy, Quota
from lmxd.core.words import Owner

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
    """By uid, and by gid of all groups of each. ``total`` is the use of all, by weight, as of the last settling."""

    by_uid: dict[int, Share] = field(default_factory=dict)
    by_gid: dict[int, Share] = field(default_factory=dict)
    total: float = 0.0

    def of(self, uid: int, now: float) -> Share:
        if uid not in self.by_uid:
            self.by_uid[uid] = Share(at=now)
        return self.by_uid[uid]

    def _all_of(self, owner: Owner, now: float) -> Iterator[Share]:
        yield self.of(owner.uid, now)
        for gid in owner.gids:
            if gid not in self.by_gid:
                self.by_gid[gid] = Share(at=now)
            yield self.by_gid[gid]

    def take(self, owner: Owner, size: int, now: float, policy: Policy) -> None:
        for share in self._all_of(owner, now):
            share.settle(now, policy.half_life)
            share.bytes += size
            share.leases += 1

    def give_back(self, owner: Owner, size: int, now: float, policy: Policy) -> None:
        for share in self._all_of(owner, now):
            share.settle(now, policy.half_life)
            share.bytes -= size
            share.leases -= 1

    def wait(self, owner: Owner, now: float, one: int) -> None:
        """One more waits, or one (-1) less."""
        for share in self._all_of(owner, now):
            share.waiting += one

    def settle(self, now: float, policy: Policy) -> None:
        """Bring all up to ``now``, and forget who has nothing and used next to nothing."""
        for uid, share in list(self.by_uid.items()):
            share.settle(now, policy.half_life)
            if not share.leases and not share.waiting and share.use < 1.0:
                del self.by_uid[uid]
        for gid, share in list(self.by_gid.items()):
            if not share.leases and not share.waiting:
                del self.by_gid[gid]
        self.total = sum(s.use / policy.quota(uid).weight for uid, s in self.by_uid.items())

    def lateness(self, uid: int, policy: Policy) -> float:
        """Seconds by which ``uid`` stands behind one who used nothing: its part of all use, by its weight."""
        share = self.by_uid.get(uid)
        if share is None or self.total <= 0:
            return 0.0
        return policy.fairness * min(1.0, share.use / policy.quota(uid).weight / self.total)

    def bounds(self, owner: Owner, policy: Policy) -> Iterator[tuple[str, Share, Quota]]:
        """Every quota that binds ``owner``: whose it is, and what is had of it."""
        yield f"uid {owner.uid}", self.by_uid.get(owner.uid, _NOTHING), policy.quota(owner.uid)
        for gid in owner.gids:
            if gid in policy.group_quotas:
                yield f"group {gid}", self.by_gid.get(gid, _NOTHING), policy.group_quotas[gid]

    def within(self, owner: Owner, size: int, policy: Policy) -> str | None:
        """Which quota one more lease of ``size`` bytes would exceed now, in words; None if none."""
        for who, share, quota in self.bounds(owner, policy):
            if quota.max_leases is not None and share.leases + 1 > quota.max_leases:
                return f"{who} has {share.leases} of at most {quota.max_leases} leases"
            if quota.max_bytes is not None and share.bytes + size > quota.max_bytes:
                return f"{who} holds {share.bytes} of at most {quota.max_bytes} bytes, and this takes {size}"
        return None


_NOTHING: Final = Share(at=0.0)
