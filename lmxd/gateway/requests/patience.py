"""How long a request may wait in a queue."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_PREFER: Final = re.compile(r"\bwait=(\d{1,6})\b")


def patience(headers: Mapping[str, str], most: float | None) -> float | None:
    """Seconds to wait in a queue: RFC 7240's ``Prefer: wait=N``, but no longer than is configured; None: for ever."""
    found = _PREFER.search(headers.get("Prefer", ""))
    if found is None:
        return most
    return min(float(found[1]), most if most is not None else float(found[1]))
