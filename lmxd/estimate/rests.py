"""What an engine takes beside weights and cache, as it was seen: one figure for each sort of launch. This is pure.

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


@dataclass(frozen=True, slots=True)
class KnownRests:
    """Bytes beside weights and cache, by the key of a sort of launch."""

    sizes: Mapping[str, int] = field(default_factory=dict)

    def get(self, key: str) -> int | None:
        """What was learned; None if nothing was."""
        return self.sizes.get(key)

    def seeing(self, key: str, promised: int, exact: int, taken: int) -> KnownRests:
        """The same after a look at an instance that was ``promised`` so much, ``exact`` of it weights and cache.

        It is the very same object where nothing is learned.
        """
        over = taken - promised
        near = max(_NEAR, promised // _NEAR_SHARE)
        far = max(_FAR, promised // _FAR_SHARE)
        if over <= near and (key in self.sizes or -over <= far):
            return self
        rest = max(0, taken - exact)
        return KnownRests({**self.sizes, key: -(-rest // _STEP) * _STEP})


NO_RESTS: Final = KnownRests()
