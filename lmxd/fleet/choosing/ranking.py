"""The order in which nodes are asked for one request."""

from __future__ import annotations

from collections.abc import Callable
from heapq import nsmallest
from typing import Final

from lmxd.fleet.choosing.prospects import Prospect, Sought, Standing
from lmxd.fleet.choosing.table import NodeTable

BEST: Final = 3
"""One of so many is taken at random, for other gateways choose by the same reports."""
MOST: Final = 16
"""The most nodes that are ranked: three are tried, and so many at most are asked for a plan."""


def ranking(
    table: NodeTable, sought: Sought, now: float, below: Callable[[int], int], home: str | None = None
) -> list[Prospect]:
    """Up to ``MOST`` nodes, the one to ask first in front.

    ``below(n)``: a number from 0 to n - 1 at random. ``home``: the node that has the session's prompt in its cache; it
    is first if it is ready. Else one of the best ``BEST`` is first, of those with the best standing. Where so many are
    ready, others are not looked at: of 1,000 nodes, few have instances of one model.
    """
    ready = [p for p in _prospects(table, sought, now, slotted=True) if p.standing is Standing.READY]
    found = ready if len(ready) >= BEST else _prospects(table, sought, now)
    if not found:
        return []
    turn = below(len(found))
    order = nsmallest(MOST, found[turn:] + found[:turn], key=_worth)
    mine = next((p for p in found if p.node == home and p.standing is Standing.READY), None)
    if mine is not None:
        return [mine, *(p for p in order if p is not mine)][:MOST]
    best = sum(p.standing is order[0].standing for p in order[:BEST])
    first = order.pop(below(best))
    return [first, *order]


def _prospects(table: NodeTable, sought: Sought, now: float, *, slotted: bool = False) -> list[Prospect]:
    return [
        node.view.prospect(node.name, offered, sought)
        for node, offered in table.offering(sought.model, now, slotted=slotted)
    ]


def _worth(prospect: Prospect) -> tuple[float, float, float]:
    """Lower is better. Nodes that are as good as each other come in the order in which they were looked at."""
    return prospect.standing, prospect.cost, prospect.eta
