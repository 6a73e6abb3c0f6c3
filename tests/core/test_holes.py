"""Holes that somebody found: whoever waits is served after a while, whatever others do, and nothing ends in vain."""

from __future__ import annotations

import random

import pytest
from core.clients import Clients
from core.world import GIB, Gpu, World, placed

from lmxd.core.decisions import Decision, GrantLease, ReportSwap
from lmxd.core.events import Event
from lmxd.core.invariants import broken
from lmxd.core.orders import ResidentsChanged
from lmxd.core.rules import Quota, Resident
from lmxd.core.words import Ask, Hold, InstanceId, TicketId


def one_card() -> World:
    return World({"gpu": Gpu(capacity=24 * GIB)}, queue_depth=500)


def rivals(world: World, work: float = 1.0) -> Clients:
    return Clients(world, loads={"hot": 5.0, "cold": 5.0}, works={"hot": work, "cold": 0.5})


def test_a_kept_model_is_not_closed_for_whom_it_cannot_make_way() -> None:
    world = one_card()
    clients = rivals(world)
    options = (placed({"gpu": 16 * GIB}),)
    ask = Ask(profile="hot", variant="v", context=4096, slots=1, spread=4, options=options)
    world.happen(ResidentsChanged(at=world.now, residents=(Resident(ask=ask, keep=1),)))

    def long() -> None:
        ticket = world.ask("hot", 16, spread=4, max_instances=1)

        def again() -> None:
            world.release(ticket)
            long()

        def look() -> None:
            if ticket not in world.granted():
                clients.after(0.1, look)
            else:
                clients.after(60, again)

        look()

    clients.after(6, long)
    for n in range(3):
        clients.after(6 + n, lambda n=n: clients.loop(f"h{n}", ["hot"], 16, spread=4, max_instances=1))  # type: ignore[misc]
    clients.after(30, lambda: clients.loop("cold", ["cold"], 16, max_instances=1))
    clients.run(300)
    assert sum(clients.answers[f"h{n}"] for n in range(3)) > 0.7 * 3 * 290


def test_a_client_that_always_comes_back_at_once_does_not_put_off_the_end_of_a_turn() -> None:
    """At each look its instance has nobody, but is about to be asked again."""
    chance, world = random.Random(1), one_card()
    clients = rivals(world, work=0.005)

    def loop() -> None:
        pause = chance.uniform(0.2, 0.24)
        clients.after(pause, lambda: clients.ask("hot", "hot", 16, loop, max_instances=1, spread=4))

    loop()
    clients.after(30, lambda: clients.loop("cold", ["cold"], 16, pause=5.0, max_instances=1))
    clients.run(3000)
    assert max(clients.waits["cold"]) <= 40


@pytest.mark.parametrize(("shortest", "longest"), [(12, 18), (35, 35)])
def test_agents_that_take_turns_at_doing_nothing_do_not_keep_an_instance(
    monkeypatch: pytest.MonkeyPatch, shortest: float, longest: float
) -> None:
    """Each lease is used for a second and then held: the instance is never without one that somebody may use."""
    world, chance = one_card(), random.Random(1)
    clients, granted, busy_until = rivals(world), set[str](), dict[int, float]()
    look, happen = clients.look, world.happen

    def busy(instance: InstanceId) -> None:
        if instance.startswith("hot") and any(at > world.now for at in busy_until.values()):
            if instance in world.state.instances:
                world.seen(instance, busy=True, worked=True)
        else:
            look(instance)

    def noting(event: Event) -> list[Decision]:
        decisions = happen(event)
        granted.update(x.ticket for x in decisions if isinstance(x, GrantLease))
        return decisions

    monkeypatch.setattr(clients, "look", busy)
    monkeypatch.setattr(world, "happen", noting)

    def agent(number: int) -> None:
        ticket = world.ask("hot", 16, spread=4, max_instances=1)

        def wait() -> None:
            if ticket not in granted:
                clients.after(0.05, wait)
                return
            busy_until[number] = world.now + 1.0
            clients.after(chance.uniform(shortest, longest), leave)

        def leave() -> None:
            world.release(ticket)
            clients.carry_out()
            clients.after(1.0, lambda: agent(number))

        clients.carry_out()
        wait()

    def poll() -> None:
        for instance in list(world.state.instances.values()):
            if instance.phase.value == "ready":
                busy(instance.id)
        clients.carry_out()
        clients.after(0.25, poll)

    poll()
    for number in range(4):
        clients.after(number * longest / 4, lambda number=number: agent(number))  # type: ignore[misc]
    clients.after(40, lambda: clients.loop("cold", ["cold"], 16, pause=5.0, max_instances=1))
    clients.run(1500)
    turn, loads = 26.5, 10.0
    assert max(clients.waits["cold"]) <= turn + loads + 2 * longest + 5.0
    assert clients.answers["cold"] > 10


def test_who_asks_for_an_instance_of_his_own_shares_none() -> None:
    world = World()
    first = world.ask("a", 8, spread=4)
    world.ready("a#1")
    world.release(first)
    alone = world.ask("a", 8, spread=4, share=False)
    assert alone in world.granted()
    world.ask("a", 8, spread=4)
    assert len(world.instance("a#1").leases) == 1
    world.release(alone)
    assert len(world.instance("a#1").leases) <= 1


def test_who_waits_is_served_when_one_that_shares_nothing_is_granted() -> None:
    world = World()
    first = world.ask("a", 16, spread=4)
    world.ask("a", 16, spread=4, share=False)
    world.cancel(first)
    world.ask("a", 16, spread=4, max_instances=1)
    world.ready("a#1")
    assert broken(world.state) == []


def test_nothing_is_started_for_one_that_is_refused_at_once() -> None:
    world = World()
    world.ask("a", 8)
    world.pass_time(5.0)
    world.ready("a#1")
    late = world.ask("a", 8, deadline=1.0)
    assert world.refused() == {late: "deadline"}
    assert world.started() == ["a#1"]


def test_no_starting_instance_is_left_beside_who_waits() -> None:
    world = World()
    world.ask("a", 8)
    world.pass_time(5.0)
    world.ready("a#1")
    world.ask("a", 8, share=False, max_instances=1)
    world.ask("a", 8, deadline=1.0)
    assert broken(world.state) == []


def test_one_user_does_not_fill_the_queue_for_others() -> None:
    world = World(queue_depth=4)
    world.ask("a", 20, uid=1)
    world.ready("a#1")
    for _ in range(4):
        world.ask("b", 20, uid=1)
    other, more = world.ask("b", 20, uid=2), world.ask("b", 20, uid=1)
    assert world.refused() == {more: "queue_full"}
    assert other in world.waiting()


def test_requests_over_a_quota_take_no_place_of_others() -> None:
    world = World(queue_depth=4, quotas={1: Quota(max_leases=1)})
    world.ask("a", 20, uid=1)
    world.ready("a#1")
    for _ in range(4):
        world.ask("a", 20, uid=1)
    for uid in range(2, 6):
        world.ask("b", 20, uid=uid)
    assert world.refused() == {}


@pytest.mark.parametrize(("going", "pause"), [(1.0, 0.5), (0.3, 0.3), (2.0, 1.5)])
def test_bytes_that_came_free_for_one_are_not_given_to_a_newcomer_who_used_less(going: float, pause: float) -> None:
    """Else the model that has just been ended is loaded again, and the one for which it was ended waits on."""
    lone, both = rivals(one_card()), rivals(one_card())
    for clients in (lone, both):
        clients.going = going
        for n in range(2):
            clients.loop(f"hot{n}", ["hot"], 16, max_instances=1, uid=1)
    both.after(7.0, lambda: both.loop("cold", ["cold"], 16, pause=pause, max_instances=1, uid=2))
    lone.run(900)
    both.run(900)
    alone = sum(lone.answers[f"hot{n}"] for n in range(2))
    assert sum(both.answers[f"hot{n}"] for n in range(2)) > 0.64 * alone
    assert max(both.waits["cold"]) <= 38 + 2 * going


def test_a_swap_that_was_planned_while_an_instance_started_leaves_it_its_turn() -> None:
    """Its clients come back at once: it is kept for them, for its turn has just begun."""
    world = one_card()
    expected = world.state.expectations
    expected.prompt["a"], expected.holds["a"] = 1.0, 0.2
    expected.launches |= {"a": 5.0, "b": 5.0}
    world.pass_time(100.0)
    world.measure()
    ticket = world.ask("a", 16, max_instances=1)
    world.ask("b", 16, max_instances=1)
    for _ in range(4):
        world.tick(1.0)
    world.pass_time(0.9)
    world.ready("a#1")
    world.pass_time(0.05)
    world.release(ticket)
    world.seen("a#1")
    assert world.stopped() == []


def test_a_deadline_far_behind_is_judged_by_the_slot_that_it_waits_for() -> None:
    world = one_card()
    expected = world.state.expectations
    expected.holds |= {"y": 3.0, "z": 60.0}
    world.ask("y", 4, max_instances=1)
    world.ready("y#1")
    world.ask("z", 18, share=False)
    world.ready("z#1")
    for _ in range(9):
        world.ask("z", 18, share=False)
    world.ask("y", 4, max_instances=1, deadline=60.0)
    assert world.refused() == {}, "its slot is 3 s away"


def test_an_unused_instance_is_not_closed_and_opened_every_second() -> None:
    world = one_card()
    world.state.expectations.holds["a"] = 3600.0
    world.ask("a", 16, max_instances=1, spread=4, hold=Hold.EXPLICIT)
    world.ready("a#1")
    world.ask("b", 16)
    for _ in range(60):
        world.tick(1.0)
        world.seen("a#1")
    assert len(world.all(ReportSwap)) < 8


def test_one_that_would_not_wait_does_not_wait_for_room_that_another_took() -> None:
    world = World({"x": Gpu(capacity=24 * GIB), "y": Gpu(capacity=24 * GIB)}, queue_depth=50)
    for name, device in (("p", "x"), ("q", "y")):
        lease = world.ask(name, {device: 16})
        world.ready(f"{name}#1")
        world.release(lease)
    world.pass_time(1.0)
    hasty = world.ask("k", 16, max_instances=1, wait=0)
    for _ in range(2):
        world.seen("p#1")
        world.seen("q#1")
        world.ask("k", 16, max_instances=1, priority=1)
    for gone, _ in world.stopped():
        world.gone(gone)
    if "k#1" in world.started():
        world.ready("k#1")
    for _ in range(5):
        world.tick(1.0)
    assert hasty not in world.waiting()


def test_bytes_that_come_free_for_a_newcomer_behind_no_head_are_promised_to_it() -> None:
    world = one_card()
    idle = world.ask("x", 16)
    world.ready("x#1")
    world.release(idle)
    world.pass_time(1.0)
    world.ask("y", 4, max_instances=1)
    world.ready("y#1")
    world.ask("y", 4, max_instances=1)
    world.seen("x#1")
    newcomer = world.ask("z", 16)
    assert world.stopped() == [("x#1", "evicted")]
    assert world.state.tickets[TicketId(newcomer)].promised


def test_the_first_of_the_queue_has_the_swap_of_an_instance_on_two_devices() -> None:
    world = World({"x": Gpu(capacity=24 * GIB), "y": Gpu(capacity=24 * GIB)}, queue_depth=50)
    expected = world.state.expectations
    for name in "abc":
        expected.launches[name], expected.holds[name], expected.prompt[name] = 5.0, 2.0, 1.0
    world.ask("a", options=(placed({"x": 16 * GIB, "y": 16 * GIB}),), max_instances=1)
    world.ready("a#1")
    world.seen("a#1", busy=True)
    first = world.ask("b", {"x": 16}, max_instances=1)
    world.ask("c", {"y": 16}, max_instances=1)
    for n in range(5):
        world.tick(1.0)
        swap = world.instance("a#1").swap
        assert swap is not None
        assert swap.ticket == first
        world.seen("a#1", busy=n % 2 == 0)


def test_a_swap_that_is_cancelled_while_its_instance_is_unused_is_told_as_cancelled() -> None:
    world = one_card()
    world.ask("a", 16, hold=Hold.EXPLICIT)
    world.ready("a#1")
    world.seen("a#1")
    waits = world.ask("b", 20)
    for _ in range(8):
        world.tick(1.0)
        world.seen("a#1")
    world.cancel(waits)
    told = world.last(ReportSwap)
    assert isinstance(told, ReportSwap)
    assert (told.closes_in, told.unused) == (None, False)
