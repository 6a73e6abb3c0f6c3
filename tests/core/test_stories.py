"""Stories: what happens to whom, sentence by sentence. Docs/admission.md makes no promise without one here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from core.world import GIB, Gpu, World, lease_of, placed

from lmxd.core.decisions import CheckActivity, EndLease, RefuseLease, ReportProgress
from lmxd.core.events import (
    ActivitySeen,
    AskChanged,
    InstanceExited,
    InstanceReady,
    LeaseReleased,
    LeaseRenewed,
    MemoryMeasured,
    TicketCancelled,
)
from lmxd.core.orders import DrainEnded, DrainRequested, StopRequested
from lmxd.core.words import Failure, Hold, InstanceId, LeaseId, Phase, TicketId


def test_bytes_are_reserved_before_the_start() -> None:
    world = World()
    world.ask(gib=8)
    assert world.started() == ["m#1"]
    assert world.headroom() == 16, "promised, though nothing is in use yet"


def test_the_lease_is_granted_when_the_instance_is_ready() -> None:
    world = World()
    ticket = world.ask()
    assert world.granted() == []
    world.ready("m#1")
    assert world.granted() == [ticket]


def test_requests_are_served_first_in_first_out() -> None:
    world = World()
    big, bigger, large = world.ask("a", 12), world.ask("b", 16), world.ask("c", 12)
    world.ready("a#1")
    assert world.granted() == [big]
    assert world.waiting() == [bigger, large], "the last would fit, but then the second would wait for it, too"
    world.release(big)
    world.seen("a#1")
    world.gone("a#1")
    assert world.started() == ["a#1", "b#1"]
    world.ready("b#1")
    world.release(bigger)
    world.seen("b#1")
    world.gone("b#1")
    assert world.started() == ["a#1", "b#1", "c#1"]


def test_three_that_fit_alone_do_not_run_together() -> None:
    world = World()
    first, second, third = (world.ask(name, 10) for name in "abc")
    world.ready("a#1")
    world.ready("b#1")
    assert world.granted() == [first, second]
    assert world.waiting() == [third]
    progress = world.last(ReportProgress)
    assert isinstance(progress, ReportProgress)
    assert (progress.ticket, progress.position) == (third, 1)
    (short,) = progress.shortfalls
    assert (short.need, short.have) == (10 * GIB, 4 * GIB)
    assert {h.name for h in short.holders} == {"a#1", "b#1"}


def test_a_request_that_could_never_fit_is_refused_at_once_without_a_launch() -> None:
    world = World({"gpu": Gpu(capacity=24 * GIB, margin=2 * GIB)})
    ticket = world.ask(gib=23)
    assert world.refused() == {ticket: "never_fits"}
    assert world.started() == []


def test_a_limit_bounds_what_is_ours_but_not_by_what_is_foreign() -> None:
    world = World({"gpu": Gpu(capacity=80 * GIB, limit=20 * GIB, foreign=30 * GIB)})
    assert world.headroom() == 20
    ticket = world.ask(gib=21)
    assert world.refused() == {ticket: "never_fits"}


def test_foreign_use_counts() -> None:
    world = World({"gpu": Gpu(capacity=24 * GIB, foreign=20 * GIB)})
    ticket = world.ask(gib=8)
    assert world.waiting() == [ticket], "it fits the card, but not now"
    (short,) = world.last(ReportProgress).shortfalls
    assert [(h.name, h.bytes) for h in short.holders] == [("foreign", 20 * GIB)]
    world.devices["gpu"].foreign = 0
    world.measure()
    assert world.started() == ["m#1"]


def test_use_of_our_own_is_not_foreign() -> None:
    world = World()
    world.ask(gib=8)
    world.ready("m#1", takes=8)
    assert world.account().foreign == 0
    assert world.headroom() == 16


def test_an_instance_that_takes_more_than_promised_is_charged_it_at_once() -> None:
    world = World()
    world.ask(gib=8)
    world.ready("m#1", takes=10)
    assert world.headroom() == 14
    assert world.state.ledger.charge(InstanceId("m#1")) == {"gpu": 10 * GIB}


def test_without_figures_by_process_use_is_attributed_by_promise() -> None:
    world = World({"gpu": Gpu(capacity=24 * GIB, foreign=2 * GIB, attributes=False)})
    world.ask(gib=8)
    world.ready("m#1", takes=8)
    assert world.account().foreign == 2 * GIB
    assert world.headroom() == 14


def test_the_margin_is_promised_to_nobody() -> None:
    world = World({"gpu": Gpu(capacity=24 * GIB, margin=2 * GIB)})
    world.ask("a", 16)
    waiting = world.ask("b", 7)
    assert world.waiting() == [waiting]


def test_bytes_come_back_only_when_the_device_shows_them() -> None:
    world = World()
    first, second = world.ask("a", 16), world.ask("b", 16)
    world.ready("a#1")
    world.exited("a#1", lingers=True)
    world.measure()
    assert world.waiting() == [second], "the process is gone, its bytes are not"
    assert world.instance("a#1").phase is Phase.RECLAIMING
    world.devices["gpu"].lingering = 0
    world.measure()
    assert world.started() == ["a#1", "b#1"]
    assert first in world.granted()


def test_a_reading_begun_before_the_exit_proves_nothing() -> None:
    world = World()
    world.ask("a", 16)
    world.ready("a#1")
    before = world.now
    world.pass_time(1)
    world.exited("a#1")
    reading = world.devices["gpu"].reading("gpu")
    world.happen(MemoryMeasured(at=world.now, begun=before, readings=(reading,)))
    assert "a#1" in world.state.instances


def test_ram_is_free_when_the_process_is_gone_whatever_others_do_meanwhile() -> None:
    world = World({"host": Gpu(capacity=24 * GIB, lags=False)})
    world.ask("a", 16)
    world.ready("a#1")
    world.exited("a#1")
    world.devices["host"].foreign = 15 * GIB
    world.measure()
    assert world.headroom("host") == 9


def test_bytes_that_never_come_back_are_foreign_in_the_end() -> None:
    world = World()
    world.ask("a", 16)
    world.ready("a#1")
    world.exited("a#1", lingers=True)
    world.pass_time(6)
    world.measure()
    assert world.account().reclaiming == 0
    assert world.account().foreign == 16 * GIB
    assert world.headroom() == 8, "not credited, whoever has them"


def test_foreign_growth_while_bytes_return_is_not_credited() -> None:
    world = World()
    world.ask("a", 16)
    world.ready("a#1")
    world.exited("a#1", lingers=True)
    world.devices["gpu"].lingering = 0
    world.devices["gpu"].foreign = 12 * GIB
    world.measure()
    assert world.headroom() <= 12


def test_an_idle_instance_is_used_again_at_no_bytes() -> None:
    world = World()
    first = world.ask()
    world.ready("m#1")
    world.release(first)
    second = world.ask()
    assert world.started() == ["m#1"]
    assert world.granted() == [first, second]


def test_other_settings_or_a_larger_context_need_an_instance_of_their_own() -> None:
    world = World()
    world.release(world.ask(gib=4))
    world.ready("m#1")
    world.ask(gib=4, context=8192)
    world.ask(gib=4, variant="w")
    assert world.started() == ["m#1", "m#2", "m#3"]


def test_a_larger_idle_instance_serves_a_smaller_request() -> None:
    world = World()
    first = world.ask(context=8192)
    world.ready("m#1")
    world.release(first)
    second = world.ask(context=4096)
    assert world.granted() == [first, second]
    assert world.started() == ["m#1"]


def test_an_instance_carries_as_many_leases_as_it_has_slots() -> None:
    world = World()
    tickets = [world.ask(gib=16, spread=2) for _ in range(3)]
    world.ready("m#1")
    assert world.granted() == tickets[:2]
    assert world.started() == ["m#1"], "requests that come while it starts join it"
    assert world.waiting() == tickets[2:]
    world.release(tickets[0])
    assert world.granted() == tickets


def test_a_shortfall_evicts_the_longest_idle_first() -> None:
    world = World()
    for name in "ab":
        ticket = world.ask(name, 8)
        world.ready(f"{name}#1")
        world.release(ticket)
        world.pass_time(10)
    for name in "ab":
        world.seen(f"{name}#1")
    world.ask("c", 12)
    assert world.stopped() == [("a#1", "evicted")]
    world.gone("a#1")
    assert world.started()[-1] == "c#1"


def test_nothing_is_evicted_unless_it_really_frees_enough() -> None:
    world = World()
    idle, busy = world.ask("a", 4), world.ask("b", 16)
    world.ready("a#1")
    world.ready("b#1")
    world.release(idle)
    world.seen("a#1")
    waiting = world.ask("c", 12)
    assert world.stopped() == []
    assert world.waiting() == [waiting]
    assert busy in world.granted()


def test_no_more_is_evicted_than_is_needed() -> None:
    world = World()
    for name, gib in (("small", 2), ("large", 14)):
        ticket = world.ask(name, gib)
        world.ready(f"{name}#1")
        world.release(ticket)
        world.pass_time(1)
        world.seen("small#1")
    world.seen("large#1")
    world.ask("c", 20)
    assert world.stopped() == [("large#1", "evicted")], "the small one is idle longer, but its end would not help"


def test_of_two_idle_instances_the_one_of_lower_priority_goes() -> None:
    world = World()
    for name, priority in (("dear", 5), ("cheap", 0)):
        ticket = world.ask(name, 8, priority=priority)
        world.ready(f"{name}#1")
        world.release(ticket)
        world.pass_time(1)
    world.seen("dear#1")
    world.seen("cheap#1")
    world.ask("c", 12)
    assert world.stopped() == [("cheap#1", "evicted")]


def test_an_eviction_waits_for_fresh_evidence_that_nothing_is_in_flight() -> None:
    world = World()
    ticket = world.ask("a", 16)
    world.ready("a#1")
    world.release(ticket)
    world.pass_time(30)
    waiting = world.ask("b", 16)
    assert isinstance(world.last(CheckActivity), CheckActivity)
    assert world.stopped() == []
    world.seen("a#1", busy=True)
    assert world.stopped() == [], "somebody talks to it directly"
    assert world.waiting() == [waiting]
    world.seen("a#1")
    assert world.stopped() == [("a#1", "evicted")]


def test_a_leased_instance_is_never_evicted() -> None:
    world = World()
    world.ask("a", 16)
    world.ready("a#1")
    world.seen("a#1")
    world.ask("b", 16)
    assert world.stopped() == []


def test_a_pinned_instance_is_neither_evicted_nor_reaped() -> None:
    world = World()
    ticket = world.ask("a", 16, pin=True, idle_timeout=10)
    world.ready("a#1")
    world.release(ticket)
    world.pass_time(1000)
    world.seen("a#1")
    world.ask("b", 16)
    assert world.stopped() == []


def test_a_starting_instance_that_nobody_wants_any_more_makes_way() -> None:
    world = World()
    world.ask("a", 16, connection=7)
    waiting = world.ask("b", 16)
    world.leave(7)
    assert world.stopped() == [("a#1", "unwanted")]
    world.gone("a#1")
    world.ready("b#1")
    assert world.granted() == [waiting]


def test_no_wait_is_refused_at_once_with_the_reason() -> None:
    world = World()
    world.ask("a", 16)
    ticket = world.ask("b", 16, wait=0)
    assert world.refused() == {ticket: "no_capacity"}
    refusal = world.last(RefuseLease).refusal
    assert refusal.shortfalls[0].holders[0].name == "a#1"


def test_no_wait_is_worth_an_eviction() -> None:
    world = World()
    first = world.ask("a", 16)
    world.ready("a#1")
    world.release(first)
    world.seen("a#1")
    ticket = world.ask("b", 16, wait=0)
    assert world.stopped() == [("a#1", "evicted")]
    assert world.refused() == {}
    world.gone("a#1")
    world.ready("b#1")
    assert world.granted() == [first, ticket]


def test_who_would_not_wait_is_refused_when_the_room_made_for_it_is_lost_and_holds_up_nobody() -> None:
    world = World()
    world.ask("a", 20, connection=1)
    world.leave(1)
    would_not_wait = world.ask("b", 16, wait=0)
    behind = world.ask("b", 12)
    assert world.stopped() == [("a#1", "unwanted")]
    assert world.waiting() == [would_not_wait, behind]
    world.devices["gpu"].foreign = 12 * GIB
    world.measure()
    world.gone("a#1")
    assert world.refused()[would_not_wait] == "no_capacity"
    assert world.started() == ["a#1", "b#1"], "and who stood behind is served"


def test_the_queue_is_bounded() -> None:
    world = World(queue_depth=2)
    world.ask("a", 24)
    tickets = [world.ask("b", 16) for _ in range(3)]
    assert world.waiting() == tickets[:2]
    assert world.refused() == {tickets[2]: "queue_full"}


def test_a_wait_ends_when_it_was_said_to() -> None:
    world = World()
    world.ask("a", 16)
    ticket = world.ask("b", 16, wait=5)
    world.tick(4.9)
    assert world.waiting() == [ticket]
    world.tick(0.2)
    assert world.refused() == {ticket: "wait_expired"}


def test_a_dead_clients_request_leaves_the_queue() -> None:
    world = World()
    holder = world.ask("a", 16)
    world.ready("a#1")
    dead, alive = world.ask("b", 16, connection=7), world.ask("c", 8, connection=8)
    world.leave(7)
    assert world.refused() == {dead: "client_left"}
    assert world.started()[-1] == "c#1", "who stood behind it is served"
    assert alive not in world.waiting()
    assert holder in world.granted()


def test_a_cancelled_request_leaves_the_queue() -> None:
    world = World()
    world.ask("a", 16)
    ticket = world.ask("b", 16)
    world.cancel(ticket)
    assert world.refused() == {ticket: "cancelled"}


@pytest.mark.parametrize(("hold", "ends"), [(Hold.CONNECTION, True), (Hold.EXPLICIT, False), (Hold.TTL, False)])
def test_a_lease_held_by_the_connection_ends_with_it(hold: Hold, ends: bool) -> None:
    world = World()
    world.ask(connection=7, hold=hold, ttl=60 if hold is Hold.TTL else None)
    world.ready("m#1")
    world.leave(7)
    assert bool(world.instance("m#1").leases) is not ends


def test_a_ttl_ends_a_lease_unless_it_is_renewed() -> None:
    world = World()
    ticket = world.ask(hold=Hold.TTL, ttl=10)
    world.ready("m#1")
    world.pass_time(8)
    world.happen(LeaseRenewed(at=world.now, lease=lease_of(ticket)))
    world.tick(8)
    assert world.state.lease(lease_of(ticket))
    world.tick(3)
    assert world.last(EndLease).reason == "ttl_expired"
    assert world.stopped() == [], "the instance stays for the next one"


def test_an_instance_without_a_lease_is_reaped_when_idle() -> None:
    world = World()
    ticket = world.ask(idle_timeout=30)
    world.ready("m#1")
    world.pass_time(100)
    world.release(ticket)
    world.pass_time(29)
    world.seen("m#1")
    assert world.stopped() == []
    world.pass_time(2)
    world.tick()
    assert world.stopped() == [], "time alone is no evidence"
    world.seen("m#1")
    assert world.stopped() == [("m#1", "idle")]


def test_a_leased_instance_is_reaped_when_idle_and_the_holder_is_told() -> None:
    world = World()
    ticket = world.ask(idle_timeout=30)
    world.ready("m#1")
    world.pass_time(31)
    world.seen("m#1")
    assert world.stopped() == [("m#1", "idle")]
    ended = world.last(EndLease)
    assert (ended.lease, ended.reason) == (lease_of(ticket), "idle_timeout")


def test_work_seen_between_two_looks_counts_as_activity() -> None:
    world = World()
    world.ask(idle_timeout=30)
    world.ready("m#1")
    for _ in range(5):
        world.pass_time(20)
        world.seen("m#1", worked=True)
    assert world.stopped() == []


def test_a_request_in_flight_is_never_cut_by_a_timeout() -> None:
    world = World()
    world.ask(idle_timeout=30)
    world.ready("m#1")
    world.pass_time(1000)
    world.seen("m#1", busy=True)
    assert world.stopped() == []


def test_touch_restarts_the_idle_clock() -> None:
    world = World()
    ticket = world.ask(idle_timeout=30, hold=Hold.EXPLICIT)
    world.ready("m#1")
    world.pass_time(29)
    world.happen(LeaseRenewed(at=world.now, lease=lease_of(ticket)))
    world.pass_time(29)
    world.seen("m#1")
    assert world.stopped() == []


def test_an_exit_ends_its_leases_with_the_reason() -> None:
    world = World()
    ticket = world.ask()
    world.ready("m#1")
    world.exited("m#1", Failure(code="crashed", message="it crashed"))
    ended = world.last(EndLease)
    assert (ended.lease, ended.reason, ended.detail) == (lease_of(ticket), "instance_exited", "it crashed")


def test_a_failed_launch_is_told_to_all_who_waited_for_it() -> None:
    world = World()
    tickets = [world.ask(spread=2), world.ask(spread=2)]
    world.exited("m#1", Failure(code="out_of_memory", message="it ran out of memory", log=("cudaMalloc failed",)))
    assert world.refused() == dict.fromkeys(tickets, "launch_failed")
    failure = world.last(RefuseLease).refusal.failure
    assert failure is not None
    assert failure.log == ("cudaMalloc failed",)
    assert "lower context_length" in world.last(RefuseLease).refusal.remedy


def test_a_late_report_of_a_dead_instance_changes_nothing() -> None:
    world = World()
    world.ask()
    world.ready("m#1")
    world.gone("m#1")
    instance, lease, ticket = InstanceId("m#1"), LeaseId("l1"), TicketId("t1")
    for event in (
        InstanceReady(at=world.now, instance=instance),
        InstanceExited(at=world.now, instance=instance),
        ActivitySeen(at=world.now, instance=instance, busy=True, worked=True),
        StopRequested(at=world.now, instance=instance),
        LeaseReleased(at=world.now, lease=lease),
        LeaseRenewed(at=world.now, lease=lease),
        TicketCancelled(at=world.now, ticket=ticket),
    ):
        assert world.happen(event) == []


def test_an_administrator_stops_an_instance_whatever_it_does() -> None:
    world = World()
    ticket = world.ask()
    world.ready("m#1")
    world.seen("m#1", busy=True)
    world.stop("m#1")
    assert world.stopped() == [("m#1", "admin")]
    assert world.last(EndLease).lease == lease_of(ticket)


def test_every_start_has_a_fresh_id() -> None:
    world = World()
    world.ask()
    world.ready("m#1")
    world.gone("m#1")
    world.ask()
    assert world.started() == ["m#1", "m#2"]


def test_draining_refuses_and_stops_everything() -> None:
    world = World()
    granted, starting, waiting = world.ask("a", 8), world.ask("b", 8), world.ask("c", 16)
    world.ready("a#1")
    world.happen(DrainRequested(at=world.now, now=True))
    assert world.refused() == {starting: "draining", waiting: "draining"}
    assert sorted(world.stopped()) == [("a#1", "drain"), ("b#1", "drain")]
    assert world.last(EndLease).lease == lease_of(granted)
    late = world.ask("d", 1)
    assert world.refused()[late] == "draining"


@pytest.mark.parametrize("how", [{"wait": 1e-300}, {"deadline": 0.0}, {"deadline": -1.0}])
def test_a_request_that_is_late_when_it_comes_is_refused_once(how: dict[str, Any]) -> None:
    """A random call found it: the least of waits was over before the draining daemon refused it, a second time."""
    world = World({"gpu": Gpu(capacity=40 * GIB)})
    world.happen(DrainRequested(at=world.now))
    late = world.ask("a", 30, **how)
    assert late in world.refused()
    world.happen(DrainEnded(at=world.now))
    late = world.ask("a", 30, **how)
    assert late in world.refused()
    assert not world.started()


def test_draining_lets_what_is_held_go_on_until_it_is_released() -> None:
    world = World()
    held, starting = world.ask("a", 8), world.ask("b", 8)
    world.ready("a#1")
    waiting = world.ask("c", 16)
    world.happen(DrainRequested(at=world.now))
    assert world.refused() == {waiting: "draining"}
    assert world.stopped() == []
    world.ready("b#1")
    assert starting in world.granted(), "what was admitted is served"
    late = world.ask("a", 8)
    assert world.refused()[late] == "draining"
    world.happen(LeaseReleased(at=world.now, lease=lease_of(held)))
    assert world.stopped() == [], "not before it is known to be idle"
    world.seen("a#1", busy=True, worked=True)
    assert world.stopped() == []
    world.tick(1.0)
    world.seen("a#1", busy=False, worked=False)
    assert world.stopped() == [("a#1", "drain")]
    world.happen(DrainEnded(at=world.now))
    world.gone("a#1")
    world.ask("d", 8)
    assert "d#1" in world.started()


def test_a_lost_device_pauses_admission_and_keeps_leases() -> None:
    world = World()
    held = world.ask("a", 8)
    world.ready("a#1")
    world.devices["gpu"].unavailable = "the driver does not match its library"
    world.measure()
    ticket = world.ask("b", 8)
    assert world.waiting() == [ticket]
    assert world.last(ReportProgress).shortfalls[0].unavailable == "the driver does not match its library"
    assert world.state.lease(lease_of(held))
    world.devices["gpu"].unavailable = None
    world.measure()
    assert world.started() == ["a#1", "b#1"]


def test_a_device_that_is_no_longer_configured_keeps_what_runs_and_takes_nothing_new() -> None:
    world = World({"x": Gpu(capacity=24 * GIB), "y": Gpu(capacity=24 * GIB)})
    held = world.ask(gib={"x": 8})
    world.ready("m#1")
    gone = world.devices.pop("x")
    world.measure()
    assert world.state.lease(lease_of(held))
    waiting = world.ask("n", gib={"x": 8})
    assert world.waiting() == [waiting]
    world.devices["x"] = gone
    world.exited("m#1")
    del world.devices["x"]
    world.measure()
    assert "m#1" not in world.state.instances
    assert "x" not in world.state.ledger.accounts


def test_the_device_that_is_filled_best_is_chosen() -> None:
    world = World({"big": Gpu(capacity=80 * GIB), "small": Gpu(capacity=24 * GIB)})
    world.ask(gib=20)
    assert world.instance("m#1").demand == {"small": 20 * GIB}
    world.ask("n", gib=20)
    assert world.instance("n#1").demand == {"big": 20 * GIB}


def test_a_busy_device_does_not_keep_a_request_from_a_free_one() -> None:
    world = World({"one": Gpu(capacity=24 * GIB, foreign=20 * GIB), "two": Gpu(capacity=24 * GIB)})
    world.ask(gib=20)
    assert world.instance("m#1").demand == {"two": 20 * GIB}


def test_without_enforcement_everything_starts_and_the_books_are_kept() -> None:
    world = World(enforce=False)
    for name in "abc":
        world.ask(name, 16)
    assert world.started() == ["a#1", "b#1", "c#1"]
    assert world.headroom() == 24 - 48


def test_who_waits_is_asked_anew_when_devices_change() -> None:
    world = World({"0": Gpu(capacity=24 * GIB, unavailable="driver/library version mismatch")})
    ticket = world.ask(gib={"0": 8})
    del world.devices["0"]
    world.devices["GPU-1"] = Gpu(capacity=24 * GIB)
    world.measure()
    ask = world.state.tickets[ticket].ask
    world.happen(AskChanged(at=world.now, ticket=ticket, ask=replace(ask, options=(placed({"GPU-1": 8 * GIB}),))))
    assert world.started() == ["m#1"]
    assert "0" not in world.state.ledger.accounts
