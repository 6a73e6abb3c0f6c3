"""The table of devices, and what is to be said of some of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from lmxd.cli import output
from lmxd.devices.diagnostics import called
from lmxd.devices.measurement import HOST
from lmxd.rpc.books import Device
from lmxd.text import short_id

GIB: Final = 2**30
_SAID: Final = re.compile(r"^(NVIDIA|AMD|Intel) (GeForce |Radeon (?=RX ))?(?!GPU)(?=\S*\d|\S+ \S*\d)")
"""The part of a card's name that its owner needs least: the maker, before what tells cards apart."""

DEVICES: Final = (
    "DEVICE", "NAME (IN GiB)", ">CAPACITY", ">MARGIN", ">LIMIT", ">FOREIGN", ">YIELDED", ">CHARGED",
    ">RECLAIMING", ">HEADROOM",
)  # fmt: skip
_OFTEN_EMPTY: Final = frozenset({">MARGIN", ">LIMIT", ">YIELDED", ">RECLAIMING"})
"""The columns that are left out where no device has such bytes."""
_NONE: Final = "-"


def table(found: Sequence[Device]) -> tuple[list[str], list[list[str]]]:
    """The headings and rows of a table that adds up: the headroom is the capacity without the other columns, but for a
    limit and a pool.
    """
    rows = [_row(d) for d in found]
    empty = {n for n, column in enumerate(DEVICES) if column in _OFTEN_EMPTY and {r[n] for r in rows} <= {_NONE, "0.0"}}
    kept = [n for n in range(len(DEVICES)) if n not in empty]
    return [DEVICES[n] for n in kept], [[row[n] for n in kept] for row in rows]


def _row(d: Device) -> list[str]:
    is_there = d.unavailable is None
    return [
        called(d),
        _SAID.sub("", d.name),
        _size(d.capacity) if is_there or d.capacity else _NONE,
        _size(d.margin),
        _NONE if d.limit is None else _size(d.limit),
        output.seen(d, d.foreign, _size) if is_there else _NONE,
        _size(d.yielded),
        _size(d.charged),
        _size(d.reclaiming),
        _size(d.headroom) if is_there else "unavailable",
    ]


def _size(n: int) -> str:
    return f"{round(n / GIB, 1) or 0.0:.1f}"


def notes(found: Sequence[Device]) -> Iterator[str]:
    """A sentence for each pool: which devices draw from it."""
    for d in found:
        if d.views and d.unavailable is None:
            others = [] if HOST in d.views else ["all programs"]
            who = output.listed([*map(short_id, d.views), *others])
            free = output.size(max(0, d.headroom))
            yield f"{who} draw from one {d.id}: {free} are free for all of them together"
