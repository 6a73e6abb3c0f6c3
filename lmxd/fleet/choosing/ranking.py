"""The order in which nodes are asked for one request."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from heapq import nsmallest
from itertools import islice
from typing import Final

from lmxd.fleet.choosing.prospects import Prospect, Sought, Standing
from lmxd.fleet.choosing.table import Node, NodeTable

BEST: Final = 3
"""One of so many is taken at random, for other gateways choose by the same reports."""
MOST: Final = 16
"""The most nodes that are ranked."""
LOOKED: Final = 32
"""The most nodes that are looked at of those that could be as good as each other; a fleet without load has many."""


def ranking(
    table: NodeTable,
    sought: Sought,
    now: float,
    below: Callable[[int], int],
    home: str | None = None,
    besides: Collection[str] = (),
) -> list[Prospect]:
    """Up to ``MOST`` nodes, the one to ask first in front; none of ``besides``.

    ``below(n)``: a number from 0 to n - 1 at random. ``home``: the node that has the session's prompt in its cache; it
    is first if it is ready. Else one of the best ``BEST`` is first, of those with the best standing. Nodes that could
    be no better than what was found are not looked at: of 1,000, few have instances of one model, or room.
    """
    found = _found(table, sought, now, below, besides)
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


def _found(
    table: NodeTable, sought: Sought, now: float, below: Callable[[int], int], besides: Collection[str]
) -> list[Prospect]:
    """The prospects at the nodes that may be the best."""

    def prospects(nodes: Iterable[Node]) -> Iterator[Prospect]:
        others = (node for node in nodes if node.name not in besides)
        return (n.view.prospect(n.name, n.offered[sought.model], sought) for n in table.open(others, now))

    found = list(prospects(table.slotted(sought.model)))
    ready = [p for p in found if p.standing is Standing.READY]
    if len(ready) >= BEST:
        return ready
    for bound, nodes in enumerate(table.by_bound(sought.model)):
        if min((p.standing for p in found), default=bound) < bound:
            break
        turn = below(max(1, len(nodes)))
        found += islice(prospects(nodes[turn:] + nodes[:turn]), LOOKED)
    return found


def _worth(prospect: Prospect) -> tuple[float, float, float]:
    """Lower is better. Nodes that are as good as each other come in the order in which they were looked at."""
    return prospect.standing, prospect.cost, prospect.eta
