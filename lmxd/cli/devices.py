"""The table of devices, and what is to be said of some of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from lmxd.cli import output
from lmxd.devices.diagnostics import called
from lmxd.devices.measurement import HOST
from lmxd.rpc.books import Device
from lmxd.rpc.holds import YieldInfo
from lmxd.text import device_name, known_as

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


def names(found: Iterable[Device]) -> dict[str, str]:
    """The devices' names in sentences, by id."""
    return {d.id: device_name(d.id, d.ref) for d in found}


def notes(found: Sequence[Device], called: Mapping[str, str] | None = None) -> Iterator[str]:
    """A sentence for each pool: which devices draw from it; and one for each yield, with its id and its end.

    ``called``: names of devices by id, where others than these are named.
    """
    called = {**(called or {}), **names(found)}
    for d in found:
        if d.views and d.unavailable is None:
            others = [] if HOST in d.views else ["all programs"]
            who = output.listed([*(known_as(view, called) for view in d.views), *others])
            free = output.size(max(0, d.headroom))
            yield f"{who} draw from one {d.id}: {free} are free for all of them together"
        yield from (yielding(each, called[d.id]) for each in d.yields)


def yielding(each: YieldInfo, device: str) -> str:
    """The bytes that a yield keeps free, until when, and how to end it sooner."""
    ends = output.seconds(max(0.0, each.ends_in))
    return f"{each.id} keeps {output.size(each.bytes)} of {device} free for others, {ends} more"
