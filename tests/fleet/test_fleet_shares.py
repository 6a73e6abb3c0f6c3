"""What users have and used over all nodes: what others have by heartbeats, one's own at once."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fleet.reported import GIB, beat, card
from lmxd.fleet.calls import LeaseCall
from lmxd.fleet.choosing.prospects import Sought
from lmxd.fleet.choosing.shares import FleetShares, UserPart, together
from lmxd.fleet.choosing.table import NodeTable
from lmxd.fleet.reports import UserUse

NODES = ("n1", "n2", "n3")


class Seen:
    """Nodes that have spoken at 100 s, and a gateway's books."""

    def __init__(self, **users: dict[str, UserUse]) -> None:
        self.table = NodeTable()
        self.shares = FleetShares(self.table)
        self.numbers = dict.fromkeys(NODES, 0)
        for node in NODES:
            self.table.hear_card(card(node, {"m": 8}))
            self.hear(node, 100.0, users.get(node, {}))

    def hear(self, node: str, at: float, users: dict[str, UserUse]) -> None:
        self.numbers[node] += 1
        self.table.hear(beat(node, self.numbers[node], at, users=users), at)

    def let_in(self, node: str, at: float, size: int = GIB) -> UserPart:
        part = self.shares.begin("ada", size)
        part.let_in, part.waiting = True, False
        self.shares.asked(part, node, at, waits=False)
        return part


def test_use_is_the_sum_of_all_nodes_but_the_one_that_is_asked() -> None:
    seen = Seen(n1={"ada": UserUse(use=5)}, n2={"ada": UserUse(use=7), "bob": UserUse(use=1)}, n3={})
    assert seen.shares.had("ada", 100).use == 12
    assert seen.shares.used_elsewhere("ada", "n1", 100) == 7
    assert seen.shares.used_elsewhere("ada", "n3", 100) == 12
    assert seen.shares.used_elsewhere("nobody", "n1", 100) == 0


def test_a_node_that_says_too_much_has_no_request_refused_elsewhere() -> None:
    seen = Seen(n1={"ada": UserUse(use=1e30)}, n2={"ada": UserUse(use=1e30)}, n3={})
    told = seen.shares.used_elsewhere("ada", "n3", 100)
    assert len(f"{told:.0f}") <= 30, "a door takes no more digits"
    assert LeaseCall(model="m", user="ada", used_elsewhere=told).used_elsewhere == told


def test_a_node_that_fell_silent_counts_no_more() -> None:
    seen = Seen(n1={"ada": UserUse(use=5, leases=2)}, n2={"ada": UserUse(use=7, leases=1)})
    for at in (102.0, 103.5):
        seen.hear("n2", at, {"ada": UserUse(use=8, leases=1)})
    assert seen.shares.had("ada", 104) == UserUse(use=8, leases=1)


def test_a_request_counts_at_once_and_no_more_when_it_has_ended() -> None:
    seen = Seen(n1={"ada": UserUse(leases=2, bytes=4 * GIB)})
    part = seen.let_in("n1", 100.5)
    assert seen.shares.had("ada", 100.5) == UserUse(leases=3, bytes=5 * GIB)
    seen.hear("n1", 101, {"ada": UserUse(leases=3, bytes=5 * GIB)})
    assert seen.shares.had("ada", 101) == UserUse(leases=3, bytes=5 * GIB), "the heartbeat counts it, too"
    seen.shares.end(part, 101.2)
    assert seen.shares.had("ada", 101.2) == UserUse(leases=2, bytes=4 * GIB), "the heartbeat does not know it yet"


def test_a_lease_that_a_node_keeps_for_a_moment_is_nobody_else_s() -> None:
    seen = Seen()
    part = seen.let_in("n1", 100.2)
    seen.shares.end(part, 100.95)
    seen.hear("n1", 101, {"ada": UserUse(leases=1, bytes=GIB)})
    assert seen.shares.had("ada", 101) == UserUse()
    seen.hear("n1", 102, {"ada": UserUse(leases=1, bytes=GIB)})
    assert seen.shares.had("ada", 102) == UserUse(leases=1, bytes=GIB), "by now it is another's"


def test_who_is_not_let_in_yet_waits_and_has_no_lease() -> None:
    seen = Seen(n1={"ada": UserUse(waiting=1)})
    seen.shares.begin("ada", GIB)
    assert seen.shares.had("ada", 100) == UserUse(leases=1, waiting=2), "what waits at a node may be served any time"


def test_a_request_that_waits_at_a_node_is_counted_once() -> None:
    seen = Seen()
    part = seen.let_in("n1", 100.2)
    seen.shares.asked(part, "n1", 100.3, waits=True)
    seen.hear("n1", 101, {"ada": UserUse(waiting=1)})
    assert seen.shares.had("ada", 101) == UserUse(leases=1, bytes=GIB, waiting=1)


@pytest.mark.parametrize(("slots", "gib"), [(1, 4), (2, 8)])
def test_a_request_takes_the_bytes_of_its_slots(slots: int, gib: int) -> None:
    assert Seen().shares.size(Sought(model="m", slots=slots), 100) == gib * GIB


def test_a_model_that_nobody_has_takes_nothing() -> None:
    assert Seen().shares.size(Sought(model="x"), 100) == 0


def test_users_of_several_nodes_are_summed() -> None:
    assert together([UserUse(use=1, leases=2), UserUse(bytes=3, waiting=4)]) == UserUse(
        use=1, bytes=3, leases=2, waiting=4
    )


class Books(RuleBasedStateMachine):
    """One gateway, and another of which it hears by heartbeats alone; nodes count both, late."""

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.now = Seen(), 100.0
        self.mine: dict[UserPart, str] = {}
        self.others = dict.fromkeys(NODES, 0)
        self.heard_at = self.now
        self.over: list[UserPart] = []
        """Those that ended since the last heartbeats, or shortly before, when one ended last."""
        self.told = dict.fromkeys(NODES, 0)
        """Of others, at the last heartbeat."""

    @rule(seconds=st.floats(0.001, 0.9), node=st.sampled_from(NODES), size=st.integers(0, 2**40))
    def ask(self, seconds: float, node: str, size: int) -> None:
        self.now += seconds
        self.mine[self.seen.let_in(node, self.now, size)] = node

    @precondition(lambda self: self.mine)
    @rule(data=st.data(), seconds=st.floats(0.001, 0.9))
    def end(self, data: st.DataObject, seconds: float) -> None:
        self.now += seconds
        part = data.draw(st.sampled_from(sorted(self.mine, key=lambda each: each.at)))
        del self.mine[part]
        self.seen.shares.end(part, self.now)
        self.over = [each for each in (*self.over, part) if each.ended_at > self.heard_at - 0.2]

    @rule(node=st.sampled_from(NODES), now=st.integers(0, 5))
    def other(self, node: str, now: int) -> None:
        self.others[node] = now

    @rule(seconds=st.floats(0.2, 0.9))
    def hear(self, seconds: float) -> None:
        self.now += seconds
        self.heard_at = self.now
        for node in NODES:
            there = [part for part, where in self.mine.items() if where == node]
            count, size = len(there) + self.others[node], sum(part.size for part in there)
            self.told[node] = self.others[node]
            self.seen.hear(node, self.now, {"ada": UserUse(leases=count, bytes=size)})

    @invariant()
    def all_of_mine_counts_whatever_is_late(self) -> None:
        had = self.seen.shares.had("ada", self.now)
        assert had.leases >= len(self.mine)
        assert had.bytes >= sum(part.size for part in self.mine)

    @invariant()
    def nothing_counts_twice(self) -> None:
        had = self.seen.shares.had("ada", self.now)
        assert had.leases <= len(self.mine) + sum(self.told.values())
        assert had.bytes == sum(part.size for part in self.mine), "others have no bytes here"

    @invariant()
    def what_is_over_is_forgotten(self) -> None:
        assert len(self.mine) <= len(self.seen.shares) <= len(self.mine) + len(self.over)


TestBooks = Books.TestCase
