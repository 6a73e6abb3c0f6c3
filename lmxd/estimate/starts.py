"""The context with which leases start, by the tokens that conversations were seen to have. This is pure.

A conversation counts in the bucket of its tokens, each of which ends sqrt(2) times higher than the one before, and each
new one has the older ones count 2 % less, so that the last hundred decide. A start becomes larger at once, for too
small a one costs a growth; it becomes smaller by a step, and only after many conversations that did not need it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isqrt
from typing import Final, TypeAlias

_SHARE: Final = 0.9
"""The share of conversations that are to have no more tokens than a lease starts with."""
_KEPT: Final = 0.98
"""The weight that a conversation keeps with each new one."""
_LEAST_WEIGHT: Final = 0.001
_ENOUGH: Final = 8
"""Conversations before anything is said of the next."""
_PATIENCE: Final = 32
"""Conversations below the present start before it becomes smaller."""

SizesOf: TypeAlias = tuple[str, tuple[int, str] | None]
"""A profile, and the user (as core.words.User) whose conversations they were; None: those of all."""


def beginning(steps: Sequence[int], tokens: int) -> int:
    """The step at which a lease starts that may need so many tokens: at least the first, and never the last.

    So a lease of the last step has always shown that it needs it.
    """
    usable = steps[:-1] or steps
    return next((step for step in usable if step >= tokens), usable[-1])


@dataclass(frozen=True, kw_only=True, slots=True)
class ConversationSizes:
    """The tokens that conversations had: weights by bucket, and the number of all that were seen.

    ``start``: the step at which the next one starts; 0 before enough were seen. ``below``: conversations in a row after
    which a smaller one would have done.
    """

    buckets: Mapping[int, float] = field(default_factory=dict)
    count: int = 0
    start: int = 0
    below: int = 0

    @property
    def usual(self) -> int:
        """The tokens that nine of ten conversations have at most: the end of a bucket. 0 without any."""
        left = _SHARE * sum(self.buckets.values())
        for bucket in sorted(self.buckets):
            left -= self.buckets[bucket]
            if left <= 1e-9:  # floating point is not exact
                return isqrt(2**bucket)
        return 0

    def seeing(self, tokens: int, steps: Sequence[int]) -> ConversationSizes:
        """The same after another conversation. ``steps``: the contexts of its model, ascending."""
        kept = {b: w * _KEPT for b, w in self.buckets.items() if w * _KEPT > _LEAST_WEIGHT}
        mine = _bucket(tokens)
        kept[mine] = kept.get(mine, 0.0) + 1.0
        found = ConversationSizes(buckets=kept, count=self.count + 1)
        if found.count < _ENOUGH:
            return found
        start, below = self._next(beginning(steps, found.usual), steps)
        return ConversationSizes(buckets=kept, count=found.count, start=start, below=below)

    def _next(self, wanted: int, steps: Sequence[int]) -> tuple[int, int]:
        """The start, and the conversations below it, if ``wanted`` would be enough for nine of ten."""
        if wanted >= self.start:
            return wanted, 0
        if self.below + 1 < _PATIENCE:
            return self.start, self.below + 1
        return max((step for step in steps if wanted <= step < self.start), default=wanted), 0


@dataclass(frozen=True, slots=True)
class KnownStarts:
    """The sizes of conversations by profile and user."""

    sizes: Mapping[SizesOf, ConversationSizes] = field(default_factory=dict)

    def of(self, profile: str, user: tuple[int, str] | None) -> ConversationSizes | None:
        """The sizes of a user's, else of all users' of the profile; None if too few were seen of either."""
        found = [self.sizes[whose] for whose in ((profile, user), (profile, None)) if whose in self.sizes]
        return next((sizes for sizes in found if sizes.start), None)


NO_STARTS: Final = KnownStarts()


def _bucket(tokens: int) -> int:
    """The number of the first bucket that ends at so many tokens or more: bucket n ends at the root of 2**n."""
    return (max(1, tokens) ** 2 - 1).bit_length()
