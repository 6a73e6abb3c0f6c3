"""The users over all nodes, and what they have and used: by heartbeats, and by what a gateway has under way itself.

A heartbeat is late by up to a second. So what it says of a node is taken only as far as it goes beyond the requests
that this gateway had there then: that is of others. Its own requests count from the moment at which they are let in.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Final

from lmxd.fleet.choosing.prospects import Sought
from lmxd.fleet.choosing.table import Node, NodeTable
from lmxd.fleet.reports import UserUse

_SETTLES: Final = 0.1
"""Seconds for which a node may still count a request that is over, for its lease is kept for the next one."""
_MOST_USED: Final = 1e29
"""Byte-seconds that are told: doors take 30 digits, and one node that says more would have all others refuse its users.
"""


class UserPart:
    """One request of a user here. ``size``: bytes that it takes; ``waiting``: it has no lease yet, as far as is known.

    ``let_in``: it counts for the user's limits of leases and bytes. ``node``: where it was asked last, since ``at``.
    """

    def __init__(self, user: str, size: int) -> None:
        self.user, self.size = user, size
        self.let_in, self.waiting = False, True
        self.node, self.at, self.ended_at = "", inf, inf

    def was_there(self, node: Node) -> bool:
        """Whether the last heartbeat of its node may count it."""
        return self.at <= node.spoke_at + _SETTLES and self.ended_at + _SETTLES >= node.spoke_at


class FleetShares:
    """The requests of users of one gateway, and the users by all nodes of the table. Times are the table's."""

    def __init__(self, table: NodeTable) -> None:
        self._table = table
        self._parts: dict[str, set[UserPart]] = {}

    def __len__(self) -> int:
        """The requests that are remembered."""
        return sum(map(len, self._parts.values()))

    def begin(self, user: str, size: int) -> UserPart:
        """A request of a user comes. It waits, until it is let in."""
        part = UserPart(user, size)
        self._parts.setdefault(user, set()).add(part)
        return part

    def asked(self, part: UserPart, node: str, now: float, *, waits: bool) -> None:
        """A node is asked for it. ``waits``: the node's queue is where it waits."""
        if part.node != node:
            part.node, part.at = node, now
        part.waiting = waits

    def end(self, part: UserPart, now: float) -> None:
        """It is over. It is remembered until its node has said so, too."""
        part.ended_at = now
        mine = self._parts[part.user]
        for old in [each for each in mine if self._is_forgotten(each, now)]:
            mine.remove(old)
        if not mine:
            del self._parts[part.user]

    def _is_forgotten(self, part: UserPart, now: float) -> bool:
        if part.ended_at == inf:
            return False
        return (
            not self._table.is_alive(part.node, now) or part.ended_at + _SETTLES < self._table.nodes[part.node].spoke_at
        )

    def had(self, user: str, now: float) -> UserUse:
        """All that a user has at nodes that are alive: requests that were let in count as leases, wherever they are."""
        by_node: dict[str, list[UserPart]] = {}
        leases = size = waiting = 0
        use = 0.0
        for part in self._parts.get(user, ()):
            by_node.setdefault(part.node, []).append(part)
            if part.ended_at == inf:
                waiting += part.waiting
                leases += part.let_in
                size += part.size if part.let_in else 0
        for node, said in self._said(user, now):
            mine = [part for part in by_node.get(node.name, ()) if part.was_there(node)]
            use += said.use
            leases += max(0, said.leases + said.waiting - len(mine))
            waiting += max(0, said.waiting - len(mine))
            size += max(0, said.bytes - sum(part.size for part in mine))
        return UserUse(use=use, bytes=size, leases=leases, waiting=waiting)

    def here(self, now: float) -> dict[str, UserUse]:
        """``had`` of all whose requests are counted here."""
        return {user: self.had(user, now) for user in self._parts}

    def used_elsewhere(self, user: str, node: str, now: float) -> float:
        """The recent byte-seconds of a user at all other nodes, as lmxd counts them there."""
        return min(_MOST_USED, sum(said.use for where, said in self._said(user, now) if where.name != node))

    def size(self, sought: Sought, now: float) -> int:
        """The bytes that a request is expected to take of a limit: those of its slots, where they are fewest."""
        offered = [n.offered[sought.model] for n in self._table.open(self._table.offering(sought.model), now)]
        return min((sum(x.needs.values()) * sought.slots // max(1, x.slots) for x in offered), default=0)

    def _said(self, user: str, now: float) -> Iterable[tuple[Node, UserUse]]:
        return [
            (node, node.beat.users[user])
            for node in self._table.nodes.values()
            if user in node.beat.users and self._table.is_alive(node.name, now)
        ]


def together(uses: Iterable[UserUse]) -> UserUse:
    """The sum of what a user has and used at several nodes."""
    found = list(uses)
    return UserUse(
        use=sum(x.use for x in found),
        bytes=sum(x.bytes for x in found),
        leases=sum(x.leases for x in found),
        waiting=sum(x.waiting for x in found),
    )
