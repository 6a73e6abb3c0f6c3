"""Bytes that an engine takes beside weights and cache, as it was seen, for each sort of launch. This is pure.

A promise must not creep, for whoever promises more gets more: an observation near the promise changes nothing. Beyond,
the figure becomes what was seen, rounded up. It becomes less once, from the prior, and only by much: what it was seen
to take before a long prompt is less than what it takes then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

_NEAR: Final = 64 * 2**20
_NEAR_SHARE: Final = 33
"""An observation is near within the larger of 64 MiB and a 33rd of the promise."""
_FAR: Final = 512 * 2**20
_FAR_SHARE: Final = 8
"""And far below a prior from the larger of 512 MiB and an eighth on."""
_STEP: Final = 64 * 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class Rest:
    """A launch as far as its rest goes: the key of its sort, the bytes promised, and how many of them are exact."""

    key: str
    promised: int
    exact: int


@dataclass(frozen=True, slots=True)
class KnownRests:
    """Bytes beside weights and cache, by the key of a sort of launch."""

    sizes: Mapping[str, int] = field(default_factory=dict)

    def get(self, key: str) -> int | None:
        """The bytes that were learned; None if none were."""
        return self.sizes.get(key)

    def seeing(self, rest: Rest, taken: int) -> KnownRests:
        """The same after a look at an instance that took so many bytes: the very same where nothing is learned."""
        over = taken - rest.promised
        near = max(_NEAR, rest.promised // _NEAR_SHARE)
        far = max(_FAR, rest.promised // _FAR_SHARE)
        if over <= near and (rest.key in self.sizes or -over <= far):
            return self
        found = max(0, taken - rest.exact)
        return KnownRests({**self.sizes, rest.key: -(-found // _STEP) * _STEP})


NO_RESTS: Final = KnownRests()
