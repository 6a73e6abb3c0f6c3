"""A device as the daemon tells it, for what is drawn of it."""

from __future__ import annotations

from typing import Any

from lmxd.rpc.books import Device

GIB = 2**30


def card(**more: Any) -> Device:
    """A GPU of 24 GiB, of which others have 3 and instances 6; its figures add up."""
    figures = {
        "capacity": 24 * GIB,
        "reserved": 0,
        "margin": 2 * GIB,
        "limit": None,
        "used": 9 * GIB,
        "foreign": 3 * GIB,
        "charged": 6 * GIB,
        "reclaiming": 0,
        "headroom": 13 * GIB,
    }
    return Device(**{"id": "GPU-a1b2-c3", "ref": "0", "kind": "gpu", "name": "Some card", **figures} | more)
