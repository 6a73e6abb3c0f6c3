"""Who makes way for whom, and when: no model stands idle while somebody waits for it, and nobody waits for ever."""

from __future__ import annotations

import random
from functools import cache, partial
from typing import Any

import pytest
from core.clients import Clients
from core.world import GIB, Gpu, World, lease_of
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from lmxd.core.decisions import RefuseLease, ReportProgress, ReportSwap
from lmxd.core.events import LeaseRenewed
from lmxd.core.holders import Ticket
from lmxd.core.orders import PolicyChanged
from lmxd.core.policy.dates import Date
from lmxd.core.policy.forecast import SURE_OF, Dated, dated
from lmxd.core.policy.turns import turns
from lmxd.core.rules import Policy, Quota
from lmxd.core.words import Hold
from lmxd.daemon.answering.refused import course


def one_card(**rules: object) -> World:
    return World({"gpu": Gpu(capacity=24 * GIB)}, queue_depth=500, **rules)


def rivals(world: World, *, load: float = 5.0, hot: int = 2, slots: int = 1, pause: float = 5.0) -> Clients:
    """Busy clients on one model, and one that now and then wants another that does not fit beside it."""
    clients = Clients(world, loads={"hot": load, "cold": load}, works={"hot": 1.0, "cold": 0.5})
    for n in range(hot):
        clients.loop(f"hot{n}", ["hot"], 16, spread=slots, max_instances=1)
    clients.after(7.0, lambda: clients.loop("cold", ["cold"], 16, pause=pause, max_instances=1))
    return clients


@cache
def answers_alone(hot: int, slots: int) -> int:
    """How many the hot clients have in 900 seconds if nobody wants another model."""
    lone = Clients(one_card(), loads={"hot": 5.0}, works={"hot": 1.0})
    for n in range(hot):
        lone.loop(f"hot{n}", ["hot"], 16, spread=slots, max_instances=1)
    lone.run(900)
    return sum(lone.answers.values())


@pytest.mark.parametrize("pause", [0.5, 5.0, 20.0, 60.0])
@pytest.mark.parametrize(("hot", "slots"), [(1, 1), (2, 1), (2, 4), (8, 4)])
def test_the_cold_one_waits_40_s_at_most_and_the_hot_one_keeps_70_per_cent(hot: int, slots: int, pause: float) -> None:
    both = rivals(one_card(), hot=hot, slots=slots, pause=pause)
    both.run(900)
    kept = sum(both.answers[f"hot{n}"] for n in range(hot)) / answers_alone(hot, slots)
    assert max(both.waits["cold"]) <= 40
    assert kept >= 0.7
    assert both.answers["cold"] >= 8


@settings(max_examples=examples(12))
@given(
    load=st.floats(0.2, 12),
    hot=st.integers(1, 6),
    slots=st.integers(1, 4),
    pause=st.floats(0.3, 90),
    work=st.floats(0.01, 2),
    breath=st.floats(0.005, 0.3),
    going=st.floats(0.05, 2),
)
def test_the_bound_of_a_wait_follows_from_the_loads(
    load: float, hot: int, slots: int, pause: float, work: float, breath: float, going: float
) -> None:
    """``breath``: seconds between two requests of a busy client; ``going``: seconds of an end."""
    both = Clients(one_card(), loads={"hot": load, "cold": load}, works={"hot": work, "cold": 0.5}, going=going)
    for n in range(hot):
        both.loop(f"hot{n}", ["hot"], 16, spread=slots, pause=breath, max_instances=1)
    both.after(7.0, lambda: both.loop("cold", ["cold"], 16, pause=pause, max_instances=1))
    both.run(60 + 5 * (3 * load + pause), lambda: both.answers["cold"] >= 3)  # some have hundreds of hot ones a second
    guess = 1 + 16 / 4  # what is expected of a load that was never seen
    answers = 5 * work * max(1, hot / slots)
    turn = max(both.world.state.policy.quantum_loads * (load + max(load, guess)), min(10.0, answers))
    assert max(both.waits["cold"]) <= load + turn + work + 2 * going + load + 1.0, (
        "what is left of a load, a turn, the answers in flight, an end, its own load, and a second"
    )
    assert both.answers["cold"]


def test_long_answers_that_go_on_coming_do_not_put_off_who_waits_for_ever() -> None:
    """Short ones have it held for a second as a rule; but some that came meanwhile always have long to go."""
    world = one_card()
    clients = Clients(world, loads={"hot": 5.0, "cold": 5.0}, works={"hot": 1.0, "cold": 0.5})
    for n in range(2):
        clients.loop(f"short{n}", ["hot"], 16, spread=5, max_instances=1)
    for n in range(3):
        clients.after(40.0 * n, partial(_hold_for, clients, f"long{n}", 120.0))
    clients.after(7.0, lambda: clients.loop("cold", ["cold"], 16, pause=5.0, max_instances=1))
    clients.run(900)
    assert clients.answers["cold"] >= 4
    assert max(clients.waits["cold"]) <= 5 + 26.5 + 120 + 1 + 5, "as in docs/admission.md, The bound of a wait"


def _hold_for(clients: Clients, client: str, seconds: float) -> None:
    """One who asks for the hot model again and again, and has it for so long each time."""
    world = clients.world
    ticket = world.ask("hot", 16, spread=5, max_instances=1)

    def again() -> None:
        world.release(ticket)
        _hold_for(clients, client, seconds)

    def look() -> None:
        if ticket not in world.granted():
            clients.after(0.1, look)
        else:
            clients.after(seconds, again)

    look()


def test_who_alternates_waits_for_a_load_and_no_longer() -> None:
    clients = Clients(one_card(), loads={"a": 3.0, "b": 5.5}, works={"a": 0.5, "b": 0.5})
    clients.loop("client", ["a", "b"], 16)
    clients.run(300)
    assert max(clients.waits["client"]) <= 5.5 + 0.3 + 1.0
    assert len(clients.waits["client"]) >= 300 / (3.0 + 5.5 + 2 * 0.5 + 2 * 0.7) * 2 - 2


def test_crowds_on_two_models_have_turns_rather_than_swaps() -> None:
    clients = Clients(one_card(), loads={"a": 1.0, "b": 1.0}, works={"a": 0.4, "b": 0.4})
    for n in range(8):
        clients.loop(f"a{n}", ["a"], 16, max_instances=1)
        clients.loop(f"b{n}", ["b"], 16, max_instances=1)
    clients.run(120)
    answers = sum(clients.answers.values())
    assert answers >= 0.65 * 120 / 0.4
    of_a = sum(count for client, count in clients.answers.items() if client.startswith("a"))
    assert 0.4 <= of_a / answers <= 0.6
    assert max(w for waits in clients.waits.values() for w in waits) <= 2.65 * (1 + 5) + 1 + 1 + 8 * 0.4 + 1


def test_three_agents_on_two_models() -> None:
    """Each asks one model twice and then the other, as a graph of agents does."""
    clients = Clients(one_card(), loads={"a": 1.0, "b": 1.0}, works={"a": 0.3, "b": 0.3})
    for n in range(3):
        clients.loop(f"agent{n}", ["a", "a", "b"], 16, spread=2, max_instances=1)
    clients.run(100)
    assert min(clients.answers.values()) >= 20
    assert max(w for waits in clients.waits.values() for w in waits) <= 10


def test_a_burst_is_served_model_by_model() -> None:
    models = [f"m{n}" for n in range(7)]
    clients = Clients(one_card(), loads=dict.fromkeys(models, 3.0), works=dict.fromkeys(models, 0.5))
    for n in range(40):
        clients.ask(f"c{n}", models[n % 7], 11, lambda: None, max_instances=1)
    clients.run(60)
    assert len(clients.answers) == 40
    assert clients.loaded == 7, "nothing is loaded twice"


# stories


def test_whoever_can_be_served_by_what_runs_is_whoever_stands_before() -> None:
    world = one_card()
    first = world.ask("a", 16, spread=2)
    world.ready("a#1")
    head, sharer = world.ask("b", 20), world.ask("a", 16, spread=2)
    assert world.granted() == [first, sharer]
    assert world.waiting() == [head]


def test_of_several_that_a_user_may_have_one_of_the_first_is_served() -> None:
    world = World({"gpu": Gpu(capacity=64 * GIB)}, queue_depth=50, quotas={5: Quota(max_leases=1)})
    models = [f"m{n}" for n in range(6)]
    for model in models:
        world.ask(model, 8, spread=4)
        world.ready(f"{model}#1")
    first = world.ask("m0", 8, spread=4, uid=5)
    waiting = [world.ask(model, 8, spread=4, uid=5) for model in reversed(models)]
    for ticket in [first, *waiting]:
        assert world.granted()[-1] == ticket
        world.release(ticket)


def test_what_nobody_wants_goes_at_once_however_young_it_is() -> None:
    world = one_card()
    world.release(_served(world, "a"))
    world.seen("a#1")
    world.ask("b", 20)
    assert world.stopped() == [("a#1", "evicted")]


def test_an_instance_closes_when_its_turn_is_over_finishes_and_goes() -> None:
    world = one_card()
    holding = _known(world, "a")
    head = world.ask("b", 20)
    turn = 2.65 * 6.0
    told = world.last(ReportSwap)
    assert isinstance(told, ReportSwap)
    assert (told.instance, told.ticket, told.profile) == ("a#1", head, "b")
    # that of a is known by now, that of b is 1 s and 4 GiB/s
    assert told.price == pytest.approx(6.0, abs=0.01)
    assert told.closes_in is not None
    assert 0 < told.closes_in <= turn
    next_one = world.ask("a", 16)
    while not world.instance("a#1").closed:
        world.release(holding)
        assert next_one in world.granted(), "it goes on with those who want it"
        holding, next_one = next_one, world.ask("a", 16)
        world.tick(1.0)
    assert world.now <= turn + 3
    assert world.waiting() == [head, next_one], "who still waits for it stands behind those who waited meanwhile"
    world.release(holding)
    world.seen("a#1")
    assert world.stopped() == [("a#1", "evicted")]
    world.gone("a#1")
    assert world.started()[-1] == "b#1"


def test_a_turn_that_is_over_is_never_said_to_end_in_the_past() -> None:
    world = one_card()
    _known(world, "a")
    world.ask("b", 20)
    world.pass_time(100.0)
    world.ask("c", 20, wait=0.0)
    refusal = world.last(RefuseLease)
    assert isinstance(refusal, RefuseLease)
    assert [turn.closes_in for turn in refusal.refusal.turns] == [0.0]


def test_a_swap_is_taken_back_when_nobody_waits_for_it_any_more() -> None:
    world = one_card(quantum_loads=0.0)
    holding = _known(world, "a")
    head = world.ask("b", 20)
    world.tick(1.1)
    following = world.ask("a", 16)
    assert world.instance("a#1").closed
    world.cancel(head)
    assert not world.instance("a#1").closed
    told = world.last(ReportSwap)
    assert isinstance(told, ReportSwap)
    assert told.closes_in is None
    world.release(holding)
    assert following in world.granted()


def test_a_swap_is_taken_back_when_what_it_was_for_is_had_elsewhere() -> None:
    """Others gave bytes back: who waited is served at once, and the closed instance goes on."""
    world = one_card(quantum_loads=0.0)
    _known(world, "a", spread=2)
    world.devices["gpu"].foreign = 8 * GIB
    world.measure()
    head = world.ask("b", 4)
    world.tick(1.1)
    following = world.ask("a", 16, spread=2)
    assert world.instance("a#1").closed
    world.devices["gpu"].foreign = 0
    world.measure()
    assert world.started()[-1] == "b#1"
    assert head not in world.waiting()
    assert following in world.granted(), "it has a free slot"


def test_what_was_to_make_way_for_who_is_served_makes_way_for_the_next() -> None:
    world = one_card(quantum_loads=0.0)
    holding = _known(world, "a")
    world.devices["gpu"].foreign = 8 * GIB
    world.measure()
    world.ask("b", 4)
    world.tick(1.1)
    assert world.instance("a#1").closed
    after = world.ask("c", 20)
    world.release(holding)  # whether its engine has anything in flight is asked by now
    world.devices["gpu"].foreign = 0
    world.measure()
    assert world.started()[-1] == "b#1"
    swap = world.instance("a#1").swap
    assert swap is None or swap.ticket == after


def test_who_is_within_a_quota_by_what_idleness_ended_is_served_at_once() -> None:
    world = World(quotas={1000: Quota(max_leases=1)})
    _served(world, "a", idle_timeout=5.0)
    waiting = world.ask("b", 4)
    world.pass_time(6.0)
    world.seen("a#1")
    assert world.stopped() == [("a#1", "idle")]
    assert world.started()[-1] == "b#1"
    assert waiting not in world.waiting()


def test_a_closed_instance_whose_holder_does_nothing_opens_again() -> None:
    """Closing does not end it, and its other slots are wanted."""
    world = one_card(quantum_loads=0.0)
    idler = _known(world, "a", spread=2)
    world.seen("a#1", busy=True)
    world.ask("b", 20)
    world.tick(2.0)
    assert world.instance("a#1").closed
    wanted = world.ask("a", 16, spread=2)
    for _ in range(7):
        world.seen("a#1")
        world.tick(1.0)
    assert wanted in world.granted()
    assert idler not in world.refused()


@pytest.mark.parametrize("renews", [False, True])
def test_it_opens_for_those_who_wait_whatever_happens_then_and_though_its_holder_renews(renews: bool) -> None:
    world = one_card(quantum_loads=0.0)
    idler = _known(world, "a", spread=2)
    world.seen("a#1", busy=True)
    world.ask("b", 20)
    world.tick(2.0)
    wanted = world.ask("a", 16, spread=2)
    for _ in range(22):
        world.seen("a#1")
        if renews:
            world.happen(LeaseRenewed(at=world.now, lease=lease_of(idler)))
        world.measure()  # says nothing new: nobody is looked at for that
        world.pass_time(0.25)
    assert wanted in world.granted()


@pytest.mark.parametrize(("part", "long"), [(0.05, 40.0), (0.02, 60.0)])
def test_a_few_long_answers_put_off_the_end_of_a_turn_no_more_than_they_last(part: float, long: float) -> None:
    """Others begin while the first of them goes on: who waits would wait for them all."""

    class Answers(dict[str, float]):
        def __getitem__(self, model: str) -> float:
            return 0.5 if model == "cold" else long if chance.random() < part else chance.uniform(0.5, 1.5)

    chance, world = random.Random(1), one_card()
    both = Clients(world, loads={"hot": 5.0, "cold": 5.0}, works=Answers())
    for n in range(8):
        both.loop(f"hot{n}", ["hot"], 16, spread=4, max_instances=1)
    both.after(12.0, lambda: both.loop("cold", ["cold"], 16, pause=5.0, max_instances=1))
    both.run(600)
    assert max(both.waits["cold"]) <= 26.5 + long + 1.0 + 5.0
    assert both.answers["cold"] >= 5


def test_a_higher_class_does_not_wait_for_the_turn_of_a_lower_one() -> None:
    world = one_card(preempt=False)
    holding = _known(world, "a")
    world.ask("b", 20, priority=1)
    assert world.instance("a#1").closed or world.instance("a#1").vacant
    assert holding in world.granted()


def test_a_lower_class_waits_for_what_a_class_is_worth() -> None:
    world = one_card(aging=100.0, fairness=0.0, quantum_loads=0.0)
    holding = _known(world, "a", priority=1)
    world.ask("b", 20)
    asked_at = world.now
    while not world.instance("a#1").closed:
        world.tick(1.0)
        world.release(holding)
        holding = world.ask("a", 16, priority=1)
    assert 98 <= world.now - asked_at <= 103


def test_a_client_that_comes_back_at_once_is_waited_for_a_moment() -> None:
    """A loop of requests has a gap between two of them: that is no reason to load twice."""
    world = one_card()
    first = _served(world, "a")
    world.pass_time(1.0)
    world.release(first)
    world.pass_time(0.01)
    holding = world.ask("a", 16)
    world.ask("b", 20)
    world.pass_time(1.0)
    world.release(holding)
    world.seen("a#1")
    assert world.stopped() == [], "it may be back in a quarter of a second"
    world.tick(0.3)
    world.seen("a#1")
    assert world.stopped() == [("a#1", "evicted")], "it did not come"


def test_a_moment_without_anybody_is_not_told_as_the_end_of_a_turn() -> None:
    """A loop of requests: between two of them the instance could go, but while somebody has it its turn goes on."""
    clients = Clients(one_card(), loads={"hot": 5.0, "cold": 5.0}, works={"hot": 0.4, "cold": 0.5})
    world, told = clients.world, list[tuple[float, float]]()
    clients.loop("hot", ["hot"], 16, pause=0.01, max_instances=1)

    def look() -> None:
        clients.after(0.1, look)
        if "hot#1" in world.state.instances and not world.instance("hot#1").vacant:
            told.extend((world.now, t.closes_in) for x in dated(world.state, 1) for t in turns(world.state, *_of(x)))

    clients.after(10.0, lambda: clients.ask("cold", "cold", 16, lambda: None, max_instances=1))
    clients.after(10.2, look)
    clients.run(20)
    assert len(told) > 50
    assert all(at + closes_in == pytest.approx(31.5, abs=1.0) for at, closes_in in told)


def _of(found: Dated) -> tuple[Ticket, Date]:
    return found.ticket, found.date


def test_a_full_queue_says_who_fills_it_and_is_not_full_for_a_higher_class() -> None:
    world = World(queue_depth=3)
    _served(world, "a", uid=1)
    for _ in range(2):
        world.ask("b", 20, uid=1)
    world.ask("b", 20, uid=2)
    low, high = world.ask("b", 20, uid=1), world.ask("b", 20, uid=3, priority=100)
    assert world.refused() == {low: "queue_full"}
    refusal = world.all(RefuseLease)[-1]
    assert isinstance(refusal, RefuseLease)
    assert "2 of uid 1, 1 of uid 2" in refusal.refusal.message
    assert "--wait" not in refusal.refusal.remedy, "there is no place to wait in"
    assert world.waiting()[0] == high


def test_who_stands_behind_a_head_that_leaves_is_served_at_once() -> None:
    """Even if it was not the first of the queue, who waits for a slot."""
    world = one_card()
    world.ask("a", 4, max_instances=1)
    world.ready("a#1")
    first = world.ask("h", 8)
    world.ready("h#1")
    world.pass_time(20.0)
    world.release(first)
    world.ask("h", 8)
    world.ask("a", 4, max_instances=1)
    head = world.ask("b", 20)
    world.ask("c", 8)
    assert "c#1" not in world.started(), "it would put off the head"
    world.cancel(head)
    assert "c#1" in world.started()


def test_so_many_are_looked_at_for_whom_others_would_make_way_however_many_wait_for_slots() -> None:
    world = World(queue_depth=50)
    for _ in range(2):
        for n in range(6):
            world.ask(f"s{n}", 3, max_instances=2)
            if f"s{n}#1" in world.started():
                world.ready(f"s{n}#1")
    for n in range(20):
        world.ask(f"b{n}", 20)
    world.tick(1.5)
    assert world.admission.scheduler.last is not None
    assert world.admission.scheduler.last.swap_budget == 0


def test_who_waits_already_keeps_its_place_when_a_higher_class_comes() -> None:
    world = World(queue_depth=3)
    _served(world, "a")
    low = [world.ask("b", 20) for _ in range(3)]
    high = [world.ask("c", 20, priority=100) for _ in range(3)]
    world.devices["gpu"].foreign = GIB
    world.measure()
    assert world.refused() == {}
    world.happen(PolicyChanged(at=world.now, policy=Policy(queue_depth=2)))
    assert world.refused() == {low[2]: "queue_full", high[2]: "queue_full"}, "the last of each"


def test_at_most_so_many_instances_are_started_for_who_says_so() -> None:
    world = one_card()
    first = world.ask("a", 4, max_instances=1)
    world.ready("a#1")
    others = [world.ask("a", 4, max_instances=1) for _ in range(2)]
    assert world.started() == ["a#1"]
    world.release(first)
    assert world.granted() == [first, others[0]]
    world.ask("a", 4)
    assert world.started() == ["a#1", "a#2"], "who does not say so has another, where there is room"


def test_a_turn_is_told_again_when_it_moved_by_a_part_of_what_is_left() -> None:
    """It moves with each user's use, all the time: a history is no list of that."""
    world = one_card()
    used = _served(world, "b", uid=1)
    world.pass_time(30.0)
    world.release(used)
    world.seen("b#1")
    holding = world.ask("a", 16, uid=2)
    world.seen("b#1")
    world.gone("b#1")
    world.ready("a#1")
    world.ask("b", 16, uid=1)
    seconds = 0
    while not world.instance("a#1").closed:
        world.tick(1.0)
        world.release(holding)
        holding = world.ask("a", 16, uid=2)
        seconds += 1
    told = [x.closes_in for x in world.all(ReportSwap) if isinstance(x, ReportSwap)]
    assert seconds >= 12
    assert told[-1] == 0.0
    assert len(told) <= 9, told


@pytest.mark.parametrize("deadline", [2.0, 30.0])
def test_who_is_too_late_is_told_of_the_turn(deadline: float) -> None:
    """At once, or when it is over."""
    world = one_card()
    _known(world, "a")
    late = world.ask("b", 20, deadline=deadline)
    while late not in world.refused():
        world.tick(1.0)
        world.seen("a#1", busy=True)
    refusal = world.all(RefuseLease)[-1]
    assert isinstance(refusal, RefuseLease)
    assert refusal.refusal.code == "deadline"
    assert [turn.instance for turn in refusal.refusal.turns] == ["a#1"]


def test_who_may_have_no_further_instance_is_expected_when_a_slot_is_free() -> None:
    """Not at once, though there is room for another."""
    world = one_card()
    first = world.ask("a", 4, max_instances=1)
    world.ready("a#1")
    world.pass_time(30.0)
    world.release(first)
    world.ask("a", 4, max_instances=1)
    world.pass_time(5.0)
    world.ask("a", 4, max_instances=1)
    (only,) = dated(world.state)
    assert only.eta == pytest.approx(25.0, abs=0.1)
    assert only.date.awaits == ("a#1",)


def test_who_will_have_a_slot_of_what_is_started_for_another_is_expected_with_it() -> None:
    """Not one start after the other: a deadline is refused by what is expected."""
    world = one_card()
    release = _known(world, "b", spread=4)
    world.release(release)
    world.seen("b#1")
    holding = world.ask("a", 16)
    world.gone("b#1")
    world.ready("a#1")
    world.pass_time(1.0)
    world.release(holding)
    world.ask("a", 16)
    waiting = [world.ask("b", 16, spread=4, max_instances=1) for _ in range(6)]
    told = {each.ticket.id: each for each in dated(world.state)}
    etas = [told[ticket].eta or 0.0 for ticket in waiting]
    first = etas[0]
    assert first > 0
    assert etas[:4] == [first] * 4, "it has four slots"
    held = world.state.expectations.holds["b"]
    assert etas[4:] == pytest.approx([first + held] * 2)
    assert {told[ticket].date.awaits for ticket in waiting} == {("a#1",)}, "what they wait for is the same"
    patient = world.ask("b", 16, spread=4, max_instances=1, deadline=first + held + 2.0)
    assert patient in world.waiting()


def test_the_same_wanted_of_another_device_does_not_wait_for_this_one() -> None:
    world = World({"x": Gpu(capacity=24 * GIB), "y": Gpu(capacity=24 * GIB)})
    for name, device in (("p", "x"), ("q", "y")):
        world.ask(name, {device: 20}, external=True, variant="hold")
        world.ready(f"{name}#1")
    waiting = world.ask("h", {"x": 8}, external=True, variant="hold")
    world.ask("h", {"y": 8}, external=True, variant="hold")
    world.gone("q#1")
    assert world.started()[2:] == ["h#1"]
    assert world.waiting() == [waiting]


def _served(world: World, model: str, **more: Any) -> str:
    """A lease on a new instance."""
    ticket = world.ask(model, 16, **more)
    world.ready(f"{model}#1")
    return ticket


def _known(world: World, model: str, **more: Any) -> str:
    """The same, after another that lasted for a second: how long they last is known."""
    first = _served(world, model, **more)
    world.pass_time(1.0)
    world.release(first)
    world.pass_time(0.5)
    return world.ask(model, 16, **more)


def test_an_unused_lease_is_dated_by_its_end_and_not_by_a_turn() -> None:
    """Its holder does nothing: neither a turn nor an answer ends it, but its idle timeout does."""
    world = one_card()
    world.ask("a", 16, hold=Hold.EXPLICIT)
    world.ready("a#1")
    world.seen("a#1")
    waits = world.ask("b", 20)
    told = []
    for _ in range(40):
        world.tick(1.0)
        world.seen("a#1")
        (turn,) = turns(world.state, *_of(dated(world.state, 1)[0]))
        told.append((turn.unused, world.now + turn.closes_in))
    assert [unused for unused, _ in told[6:]] == [True] * 34
    ends = world.instance("a#1").active_at + 300.0
    assert [at for _, at in told[6:]] == [pytest.approx(ends)] * 34
    assert "leased, but unused" in course(turn)
    reports = [x for x in world.all(ReportProgress) if isinstance(x, ReportProgress) and x.ticket == waits]
    assert len(reports) < 8, "it does not change, and is not told every second"


def test_whom_two_loops_keep_busy_is_expected_to_go_on_for_its_turn() -> None:
    """The instance is never without a client, so that nobody was seen to come back to it when it was empty."""
    clients = Clients(one_card(), loads={"hot": 5.0, "cold": 5.0}, works={"hot": 0.4, "cold": 0.5})
    for n in range(2):
        clients.after(5.5 + 0.2 * n, lambda: clients.loop("hot", ["hot"], 16, pause=0.01, spread=4, max_instances=1))
    clients.after(20.0, lambda: clients.ask("cold", "cold", 16, lambda: None, max_instances=1))
    clients.run(20.5)
    (found,) = [x for x in dated(clients.world.state) if x.ticket.ask.profile == "cold"]
    (turn,) = turns(clients.world.state, *_of(found))
    assert turn.closes_in > 5.0
    assert found.eta is not None
    assert found.eta >= turn.closes_in + 5.0, "the turn, and then its own load"


def test_who_stands_far_behind_and_wants_a_slot_is_told_of_the_slot() -> None:
    world = one_card()
    world.ask("a", 16, max_instances=1)
    world.ready("a#1")
    for n in range(SURE_OF):
        world.ask(f"b{n}", 20)
    far = world.ask("a", 16, max_instances=1)
    world.tick(2.0)
    (told,) = [
        x for x in world.all(ReportProgress)[-SURE_OF - 1 :] if isinstance(x, ReportProgress) and x.ticket == far
    ]
    assert told.waits_for == ("a#1",)
    assert told.shortfalls == ()


def test_a_refusal_for_want_of_a_slot_says_so_and_when_to_ask_again() -> None:
    world = one_card()
    world.ask("a", 4, max_instances=1)
    world.ready("a#1")
    world.ask("a", 4, max_instances=1, wait=0)
    refusal = world.last(RefuseLease)
    assert isinstance(refusal, RefuseLease)
    assert refusal.refusal.message == "all slots of a#1 are taken"
    assert refusal.refusal.shortfalls == ()
    assert refusal.refusal.retry_in is not None
    assert refusal.refusal.retry_in > 0


def test_foreign_use_is_not_named_where_the_limit_is_what_is_short() -> None:
    world = World({"gpu": Gpu(capacity=24 * GIB, limit=8 * GIB, foreign=2 * GIB)})
    world.ask("a", 6)
    world.ready("a#1")
    world.ask("b", 6)
    told = world.last(ReportProgress)
    assert isinstance(told, ReportProgress)
    assert [holder.name for holder in told.shortfalls[0].holders] == ["a#1"]
