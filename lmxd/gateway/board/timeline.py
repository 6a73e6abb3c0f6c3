"""The last hour of each device, in steps of ten seconds."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from lmxd.rpc.books import Device

STEP: Final = 10.0
"""Seconds from sample to sample."""
LENGTH: Final = 360
"""Samples: an hour of them."""


class Timeline:
    """Samples of the devices' use over the last hour."""

    def __init__(self) -> None:
        self._samples: deque[dict[str, Any]] = deque(maxlen=LENGTH)

    def note(self, at: float, devices: Sequence[Device]) -> dict[str, Any]:
        """One sample. ``at``: seconds since the epoch."""
        sample = {"at": round(at), "devices": {d.id: _classes(d) for d in devices if d.unavailable is None}}
        self._samples.append(sample)
        return sample

    @property
    def samples(self) -> list[dict[str, Any]]:
        return list(self._samples)


def _classes(d: Device) -> list[int]:
    """Bytes: own, reclaiming, foreign, margin; what is missing to the capacity is free or kept back."""
    return [d.charged, d.reclaiming, d.foreign, d.margin]
