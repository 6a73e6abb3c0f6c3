"""JSON as all can read it: Python's own writes Infinity and NaN, at which a client's parser stops."""

from __future__ import annotations

import json
import math
from typing import Any, Final

_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
"""Made once, for making one takes as long as encoding a message."""


def strictly(value: Any) -> str:
    """JSON of a value. ValueError if a number in it is not finite."""
    return _ENCODER.encode(value)


def encode(value: Any) -> str:
    """JSON of a value, with null for each number in it that is not finite."""
    try:
        return strictly(value)
    except ValueError:
        return _ENCODER.encode(_finite(value))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
