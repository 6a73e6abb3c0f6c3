"""The checks themselves: they see every fault, and change nothing while they look."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
from core.world import GIB, World, unified

from lmxd.core.books.alarms import AlarmKind
from lmxd.core.books.state import State
from lmxd.core.invariants import broken
from lmxd.core.words import DeviceId, InstanceId


def busy() -> State:
    """One instance that is used, two that are not, one that starts, one that ends, a hold, and two who wait."""
    world = World()
    held, left, wanted = world.ask("used", 4, wait=60), world.ask("unused", 4), world.ask("gone", 4)
    for name in ("used#1", "unused#1", "gone#1"):
        world.ready(name)
    for ticket in (left, wanted):
        world.release(ticket)
    world.ask("starts", 4)
    world.ask("a", 24, wait=60)
    world.ask("b", 24)
    world.stop("gone#1")
    assert broken(world.state) == []
    assert held in world.granted()
    return world.state


def account(state: State) -> Any:
    return state.ledger.accounts[DeviceId("gpu")]


def _silence(state: State) -> None:
    for name in state.tickets:
        state.alarms.clear((AlarmKind.WAIT, name))


FAULTS: dict[str, Callable[[State], object]] = {
    "charged": lambda s: setattr(account(s), "charged", 1),
    "foreign": lambda s: setattr(account(s), "foreign", GIB),
    "headroom": lambda s: setattr(account(s), "headroom", 99 * GIB),
    "free": lambda s: setattr(account(s), "free", 99 * GIB),
    "ceiling": lambda s: setattr(account(s), "ceiling", 99 * GIB),
    "yielded": lambda s: setattr(account(s), "yielded", 1),
    "live_by_kind": lambda s: s.live_by_kind.popitem(),
    "shares of uids": lambda s: s.shares.by_uid.clear(),
    "shares of users": lambda s: s.shares.by_user.clear(),
    "alarms": _silence,
    "with_free_slots": lambda s: s.with_free_slots.clear(),
    "vacant": lambda s: s.vacant.clear(),
    "released_holds": lambda s: s.released_holds.update(s.instances),
    "lingering": lambda s: s.lingering.update(s.instances),
    "asked": lambda s: s.asked.update({(1, "k"): next(iter(s.tickets.values()))}),
    "asleep": lambda s: s.asleep.update(s.instances),
    "leaving": lambda s: s.leaving.clear(),
    "swapping": lambda s: s.swapping.update(s.instances),
    "yielding": lambda s: s.yielding.update(s.instances),
    "leases": lambda s: s.leases.clear(),
    "keys": lambda s: s.keys.update({(1, "k"): next(iter(s.leases.values()))}),
    "priorities": lambda s: s.priorities.clear(),
    "impatient": lambda s: s.impatient.update(s.tickets),
    "tickets": lambda s: s.tickets.popitem(),
    "order": lambda s: s.queue._order.reverse(),
    "groups": lambda s: s.queue._groups.popitem(),
    "kinds": lambda s: s.queue._kinds.popitem(),
    "fronts": lambda s: s.queue._fronts.pop(),
    "by_user": lambda s: s.queue._by_user.popitem(),
    "rank": lambda s: setattr(next(iter(s.queue)), "rank", 1e9),
    "shares": lambda s: setattr(next(iter(s.shares.by_uid.values())), "bytes", 1),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_seen_as_often_as_it_is_looked_for(fault: str) -> None:
    state = busy()
    FAULTS[fault](state)
    found = broken(state)
    assert found
    assert broken(state) == found


def test_a_byte_of_a_pool_that_is_promised_twice_is_seen() -> None:
    world = World(unified(32))
    world.ask(gib={"gpu": 20})
    assert broken(world.state) == []
    memory = world.account("memory")
    memory.reservations[InstanceId("m#1")].promised = 10 * GIB
    memory.balance()
    (found,) = broken(world.state)
    assert "share memory" in found
    del memory.reservations[InstanceId("m#1")]
    memory.balance()
    assert any("share memory" in sentence for sentence in broken(world.state))


def test_a_check_changes_nothing() -> None:
    state = busy()
    before = pickle.dumps(state)
    assert broken(state) == []
    assert pickle.dumps(state) == before
    account(state).charged = 1
    broken(state)
    assert account(state).charged == 1


def test_a_device_that_became_smaller_breaks_no_promise() -> None:
    world = World()
    world.ask("a", 10)
    world.ask("b", 10)
    for smaller in ({"limit": 15 * GIB}, {"capacity": 16 * GIB}):
        for name, value in smaller.items():
            setattr(world.devices["gpu"], name, value)
        world.measure()
        assert broken(world.state) == []
        assert world.headroom() < 0
    account(world.state).reserve(InstanceId("a#1"), 12 * GIB)
    assert any("are promised of" in sentence for sentence in broken(world.state)), "a promise since then does"
