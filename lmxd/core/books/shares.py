"""The leases and bytes of each uid, group and key, for quotas; and the recent use of each user, for a fair order.

A user is a uid, or a key for which a uid asks. Use is byte-seconds, halved every ``half_life`` h; holding B bytes for
t seconds adds B * h/ln 2 * (1 - 2**(-t/h)). What a user of a fleet has used at other nodes counts, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import log
from typing import Final

from lmxd.core.rules import Policy, Quota
from lmxd.core.words import Elsewhere, Owner, User

_LN2: Final[float] = log(2)
_GIB: Final = 2**30
_WORTH_RANKING: Final = 0.5
"""Seconds by which a user's lateness must change before the user's tickets are ranked anew, for moving them takes time.
"""


@dataclass(kw_only=True, slots=True)
class Share:
    """The leases, bytes and requests of one uid, group or user. ``leases`` includes those that are being started."""

    bytes: int = 0
    leases: int = 0
    waiting: int = 0


@dataclass(kw_only=True, slots=True)
class UserShare(Share):
    """The share of one user, and its recent use.

    ``use``: byte-seconds up to ``at``. ``bytes`` are held since then. ``elsewhere``: those at other nodes of a fleet,
    as it was last told, and ``weight``: the user's in that; None: what is configured here.
    """

    at: float
    use: float = 0.0
    elsewhere: float = 0.0
    weight: float | None = None

    def hold(self, size: int, now: float, half_life: float) -> None:
        """Add ``size`` bytes (negative: subtract) from ``now`` on."""
        self.settle(now, half_life)
        self.bytes += size

    def settle(self, now: float, half_life: float) -> None:
        """Bring ``use`` up to ``now``."""
        self.use, left = self.by(now, half_life), 2.0 ** (-(now - self.at) / half_life)
        self.elsewhere *= left
        self.at = now

    def by(self, now: float, half_life: float) -> float:
        """The byte-seconds up to ``now``, of what is held here."""
        left: float = 2.0 ** (-(now - self.at) / half_life)
        return self.use * left + self.bytes * half_life / _LN2 * (1 - left)

    def by_weight(self, user: User, policy: Policy) -> float:
        """All its use, for a weight of 1."""
        return (self.use + self.elsewhere) / policy.weight(user, self.weight)


@dataclass(slots=True)
class Shares:
    """The shares of all uids, groups and users. ``total``: the use of all users by weight, when last settled."""

    by_uid: dict[int, Share] = field(default_factory=dict)
    by_gid: dict[int, Share] = field(default_factory=dict)
    by_user: dict[User, UserShare] = field(default_factory=dict)
    total: float = 0.0
    ranked: dict[User, float] = field(default_factory=dict)
    """The lateness by which each user's tickets were last ranked."""

    def _all_of(self, owner: Owner) -> Iterator[Share]:
        yield self.by_uid.setdefault(owner.uid, Share())
        for gid in owner.gids:
            yield self.by_gid.setdefault(gid, Share())

    def _use_of(self, owner: Owner, now: float) -> UserShare:
        return self.by_user.setdefault(owner.who, UserShare(at=now))

    def take(self, owner: Owner, size: int, now: float, policy: Policy) -> None:
        for share in self._all_of(owner):
            share.bytes += size
            share.leases += 1
        had = self._use_of(owner, now)
        had.leases += 1
        had.hold(size, now, policy.half_life)

    def give_back(self, owner: Owner, size: int, now: float, policy: Policy) -> None:
        for share in self._all_of(owner):
            share.bytes -= size
            share.leases -= 1
        had = self._use_of(owner, now)
        had.leases -= 1
        had.hold(-size, now, policy.half_life)

    def wait(self, owner: Owner, now: float, one: int) -> None:
        """Count one more (1) or one less (-1) waiting request."""
        for share in self._all_of(owner):
            share.waiting += one
        self._use_of(owner, now).waiting += one

    def know(self, owner: Owner, elsewhere: Elsewhere, now: float, policy: Policy) -> None:
        """Take in what a fleet says of a user, which replaces what it said before."""
        had = self._use_of(owner, now)
        self.total -= had.by_weight(owner.who, policy)
        had.settle(now, policy.half_life)
        had.elsewhere, had.weight = elsewhere.used, elsewhere.weight
        self.total += had.by_weight(owner.who, policy)

    def settle(self, now: float, policy: Policy) -> None:
        """Bring all use up to ``now``, and forget users who have nothing and used next to nothing."""
        for shares in (self.by_uid, self.by_gid):
            for id in [id for id, share in shares.items() if not share.leases and not share.waiting]:
                del shares[id]
        for user, had in list(self.by_user.items()):
            had.settle(now, policy.half_life)
            if not had.leases and not had.waiting and had.use + had.elsewhere < 1.0:
                del self.by_user[user]
        self.total = sum(had.by_weight(user, policy) for user, had in self.by_user.items())

    def lateness(self, owner: Owner, policy: Policy) -> float:
        """Seconds by which ``owner`` stands behind a user without recent use.

        It is ``fairness`` times the owner's part of all use, each by its weight: 30 of 60 s for half of it.
        """
        return self._lateness(owner.who, policy)

    def _lateness(self, user: User, policy: Policy) -> float:
        had = self.by_user.get(user)
        if had is None or self.total <= 0:
            return 0.0
        return policy.fairness * min(1.0, had.by_weight(user, policy) / self.total)

    def moved(self, policy: Policy, *, all: bool = False) -> dict[User, float]:
        """The new lateness of users whose lateness changed since they were last ranked; it counts as applied.

        ``all``: of every user, for other rules may rank their tickets otherwise.
        """
        found = {user: self._lateness(user, policy) for user in self.by_user}
        least = 0.0 if all else _WORTH_RANKING
        moved = {user: late for user, late in found.items() if abs(late - self.ranked.get(user, 0.0)) >= least}
        self.ranked = {user: moved.get(user, self.ranked.get(user, 0.0)) for user in found}
        return moved

    def bounds(self, owner: Owner, policy: Policy) -> Iterator[tuple[str, Share, Quota]]:
        """Every quota that binds ``owner``: whose it is, what is used of it, and its size."""
        yield f"uid {owner.uid}", self.by_uid.get(owner.uid, _NOTHING), policy.quota(owner.uid)
        if owner.user:
            yield owner.called, self.by_user.get(owner.who, _NOTHING), policy.key_quota(owner.user)
        for gid in owner.gids:
            if gid in policy.group_quotas:
                yield f"group {gid}", self.by_gid.get(gid, _NOTHING), policy.group_quotas[gid]

    def binding(self, owner: Owner, policy: Policy) -> set[str]:
        """The owners of the quotas that limit the leases or bytes that ``owner`` has."""
        all = self.bounds(owner, policy)
        return {who for who, _, quota in all if quota.max_leases is not None or quota.max_bytes is not None}

    def exceeded(self, owner: Owner, policy: Policy) -> str | None:
        """The quota of which ``owner`` has more than all of it, as a sentence; None if none."""
        return self.within(owner, 0, policy, instead=0)

    def within(self, owner: Owner, size: int, policy: Policy, instead: int | None = None) -> str | None:
        """The quota that one more lease of ``size`` bytes would exceed now, as a sentence; None if none.

        ``instead``: the bytes of a lease that would not count any more then.
        """
        leases, size = (1, size) if instead is None else (0, size - instead)
        for who, share, quota in self.bounds(owner, policy):
            if quota.max_leases is not None and share.leases + leases > quota.max_leases:
                return f"{who} has {share.leases} of at most {quota.max_leases} leases"
            if quota.max_bytes is not None and share.bytes + size > quota.max_bytes:
                most = quota.max_bytes / _GIB
                return (
                    f"{who} holds {share.bytes / _GIB:.2f} of at most {most:.2f} GiB, and this takes {size / _GIB:.2f}"
                )
        return None


_NOTHING: Final = Share()
