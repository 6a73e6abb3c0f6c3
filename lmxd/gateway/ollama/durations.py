"""How long a model is to stay, as ollama's clients say it: seconds, or Go's durations such as 1h30m."""

from __future__ import annotations

import math
import re
from typing import Final

from lmxd.errors import LmxdError

_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
"""Seconds of each; ms comes before m."""
_PART: Final = re.compile(rf"(\d{{1,15}}(?:\.\d{{0,15}})?|\.\d{{1,15}})({'|'.join(_UNITS)})")
_NUMBER: Final = re.compile(r"\d{1,15}(?:\.\d{0,15})?")
_MOST: Final = 1e9


def keep_alive(said: float | str) -> float | None:
    """Seconds; None for as long as possible, as all that is negative means. LmxdError ``invalid_params``."""
    if isinstance(said, str):
        text = said.strip()
        seconds = _seconds(text.removeprefix("-").removeprefix("+"))
        seconds = -seconds if text.startswith("-") else seconds
    else:
        seconds = said
    if math.isnan(seconds):
        raise LmxdError("invalid_params", f"keep_alive: {ascii(said)[:60]}", "seconds, or such as 5m; -1 for ever")
    return None if seconds < 0 else min(seconds, _MOST)


def _seconds(text: str) -> float:
    """NaN for what is no duration."""
    if _NUMBER.fullmatch(text):
        return float(text)
    parts = list(_PART.finditer(text))
    if not parts or "".join(part[0] for part in parts) != text:
        return math.nan
    return sum(float(part[1]) * _UNITS[part[2]] for part in parts)
