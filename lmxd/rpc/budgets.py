"""A user's share of the server: the connections, calls and bytes of all its connections together."""

from __future__ import annotations

import resource
from collections import Counter, OrderedDict
from typing import Final, Protocol

from lmxd.errors import LmxdError

MAX_CONNECTIONS = 4096
MAX_CONNECTIONS_PER_UID = 1024
RESERVED_CONNECTIONS: Final = 256
"""Of all connections, those that only administrators may have."""
PART_OF_FREE: Final = 4
"""A user may have one connection for so many that are free: whoever comes last finds some, however many came before."""
MAX_IN_FLIGHT_OF_USER: Final = 64
"""The most calls of a user that are worked on at once, over all its connections."""
MAX_ON_THEIR_WAY_OF_USER: Final = 512
"""The same for requests and holds before they are in the queue."""
MAX_BUFFERED_OF_USER: Final = 4 * 2**20
"""Bytes of calls that were read and not worked on, most of them unfinished: a call takes some hundreds."""
MAX_UNREAD_OF_USER: Final = 16 * 2**20
"""Bytes of answers that a user has not read, beyond which no more of its calls are worked on."""


class Claimant(Protocol):
    """A connection as its user's budget sees it."""

    def take_turn(self) -> None:
        """Begin one call."""
        ...

    @property
    def unread(self) -> int:
        """Bytes of its answers that wait for the client."""
        ...


class Budget:
    """The connections, calls and bytes of one user.

    ``privileged``: administrators' calls begin before those of others.
    """

    def __init__(self, uid: int, *, privileged: bool) -> None:
        self.uid = uid
        self.privileged = privileged
        self.clients: set[Claimant] = set()
        self.buffered = 0
        self.busy: Counter[bool] = Counter()
        """The calls that are worked on: requests and holds (True), and all others."""
        self._ready: OrderedDict[Claimant, None] = OrderedDict()
        self._unread = 0

    @property
    def has_turn(self) -> bool:
        """Whether a call of this user waits, and may begin."""
        return bool(self._ready) and self._has_hands

    @property
    def _has_hands(self) -> bool:
        free = self.busy[False] < MAX_IN_FLIGHT_OF_USER and self.busy[True] < MAX_ON_THEIR_WAY_OF_USER
        return free and not self.unread_too_much()

    def wait(self, client: Claimant) -> None:
        """Let a client have its turn, after the others of the same user that wait."""
        self._ready[client] = None

    def withdraw(self, client: Claimant) -> None:
        self._ready.pop(client, None)

    def take_turn(self) -> None:
        """Let the client that has waited longest begin one call."""
        client, _ = self._ready.popitem(last=False)
        client.take_turn()

    def wrote(self, count: int) -> None:
        """Count an answer that was sent. It may have been read since."""
        self._unread += count

    def unread_too_much(self) -> bool:
        """Whether the user has left too much unread. Its connections are asked only when it may be so."""
        if self._unread > MAX_UNREAD_OF_USER:
            self._unread = sum(client.unread for client in self.clients)
        return self._unread > MAX_UNREAD_OF_USER


class Budgets:
    """The budgets of all users that are connected."""

    def __init__(self) -> None:
        self._budgets: dict[tuple[int, bool], Budget] = {}
        self._connections = 0
        self._most = min(MAX_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)

    def admit(self, client: Claimant, uid: int, *, privileged: bool) -> Budget:
        """Count a connection. LmxdError ``too_many`` if it is one too many."""
        budget = self._budgets.get((uid, privileged)) or Budget(uid, privileged=privileged)
        had, free = len(budget.clients), self._most - self._connections
        if free <= 0:
            raise LmxdError("too_many", f"lmxd has {self._most} connections already", "close some")
        if had >= MAX_CONNECTIONS_PER_UID or not (privileged or had < (free - RESERVED_CONNECTIONS) / PART_OF_FREE):
            raise LmxdError("too_many", f"uid {uid} has {had} connections already", "close some")
        self._budgets[uid, privileged] = budget
        self._connections += 1
        budget.clients.add(client)
        return budget

    def forget(self, client: Claimant, budget: Budget) -> None:
        self._connections -= 1
        budget.clients.remove(client)
        budget.withdraw(client)
        if not budget.clients:
            del self._budgets[budget.uid, budget.privileged]
