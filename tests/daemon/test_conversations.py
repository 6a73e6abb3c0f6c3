"""Conversations in slots: when one is over, whose it was, and what is kept of them on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lmxd.core.decisions import (
    CarryConversation,
    Decision,
    EndLease,
    ForgetInstance,
    GrantLease,
    MoveLease,
    StopInstance,
)
from lmxd.core.moves import Carry, Move
from lmxd.core.reasons import EndReason
from lmxd.core.words import NO_CONNECTION, Cause, InstanceId, LeaseId, Owner, TicketId, User
from lmxd.daemon.learning.contexts import Contexts
from lmxd.daemon.learning.conversations import Conversations
from lmxd.daemon.learning.growths import Growths
from lmxd.engines.carrier import SlotUse

A, B = InstanceId("m#1"), InstanceId("m#2")
TICKET, LEASE = TicketId("t-1"), LeaseId("l-1")
ALICE = Owner(uid=1, pid=1, connection=NO_CONNECTION, user="alice")
BOB = Owner(uid=1, pid=1, connection=NO_CONNECTION, user="bob")
STEPS = (4096, 8192, 16384, 65536)


class Watch:
    """Instances of ``m`` that are watched, and the conversations that were over."""

    def __init__(self) -> None:
        self.over: list[tuple[User | None, int]] = []
        self.task = 0
        self.watching = Conversations(lambda profile, user, used: self.over.append((user, used)))

    def used(self, instance: InstanceId, *tokens: int | None, kept: int = 10**6) -> None:
        """A look at an instance after another request of each slot. ``kept``: at most, of what a slot had."""
        self.task += 1
        uses = [None if x is None else SlotUse(tokens=x, kept=min(x, kept), task=self.task) for x in tokens]
        self.watching.used(instance, "m", uses)

    def grant(self, instance: InstanceId, owner: Owner) -> None:
        self.decide(
            GrantLease(ticket=TICKET, lease=LEASE, instance=instance, profile="m", owner=owner, waited=0.0, why="")
        )

    def move(self, before: InstanceId, instance: InstanceId, slot: int | None, owner: Owner = ALICE) -> None:
        self.decide(moved(before, instance, slot, owner))

    def decide(self, decision: Decision) -> None:
        self.watching.observe(decision)


def moved(before: InstanceId, instance: InstanceId, slot: int | None, owner: Owner = ALICE) -> MoveLease:
    """With the conversation of slot 1, if it was carried."""
    return MoveLease(
        ticket=TICKET,
        lease=LEASE,
        instance=instance,
        before=before,
        profile="m",
        owner=owner,
        waited=1.0,
        carried=() if slot is None else ((1, slot),),
        move=Move.GROWN,
        why="",
    )


def test_a_conversation_is_over_when_another_has_its_slot_or_its_instance_is_gone() -> None:
    watch = Watch()
    watch.grant(A, ALICE)
    for tokens in (100, 900, 2000, 1500, 2100):  # it was edited in between
        watch.used(A, tokens)
    assert watch.over == []
    watch.used(A, 700)
    assert watch.over == [(ALICE.who, 2100)]
    watch.used(A, None)
    watch.used(A, 1000)
    watch.decide(ForgetInstance(instance=A))
    assert watch.over == [(ALICE.who, 2100), (ALICE.who, 1000)]
    watch.decide(ForgetInstance(instance=A))
    assert len(watch.over) == 2


def test_another_conversation_in_a_slot_is_told_by_what_its_prompt_found_there() -> None:
    watch = Watch()
    watch.grant(A, ALICE)
    watch.used(A, 6000)
    watch.used(A, 6100, kept=40)  # they begin alike
    assert watch.over == [(ALICE.who, 6000)]
    watch.used(A, 6200)
    assert len(watch.over) == 1


def test_a_slot_without_a_new_request_has_the_same_conversation() -> None:
    watch = Watch()
    begun = SlotUse(tokens=6000, kept=0, task=1)
    for task in range(3):
        watch.watching.used(A, "m", (begun, SlotUse(tokens=50, kept=50, task=task)))
    assert watch.over == []


def test_an_answer_that_is_being_written_is_one_request() -> None:
    watch = Watch()
    watch.used(A, 6000)
    for tokens in (500, 600, 700):
        watch.watching.used(A, "m", (SlotUse(tokens=tokens, kept=40, task=9, busy=True),))
    watch.watching.used(A, "m", (SlotUse(tokens=800, kept=40, task=9),))
    assert watch.over == [(None, 6000)]
    watch.decide(ForgetInstance(instance=A))
    assert watch.over == [(None, 6000), (None, 800)]


def test_another_user_in_the_only_slot_ends_a_conversation() -> None:
    watch = Watch()
    watch.grant(A, ALICE)
    watch.used(A, 3000)
    watch.grant(A, ALICE)
    assert watch.over == []
    watch.grant(A, BOB)
    assert watch.over == [(ALICE.who, 3000)]
    watch.used(A, 2900)
    watch.decide(ForgetInstance(instance=A))
    assert watch.over[1:] == [(BOB.who, 2900)]


def test_of_several_slots_a_conversation_is_a_users_if_there_was_no_other() -> None:
    watch = Watch()
    watch.grant(A, ALICE)
    watch.used(A, 3000, 0, 50)
    watch.used(A, 10, 0, 60)
    watch.grant(A, BOB)
    watch.used(A, 10, 900, 60)
    watch.decide(ForgetInstance(instance=A))
    assert watch.over == [(ALICE.who, 3000), (None, 10), (None, 900), (None, 60)]


def test_a_conversation_that_is_carried_goes_on() -> None:
    watch = Watch()
    watch.grant(A, ALICE)
    watch.used(A, 10, 3000)
    watch.used(B, 700)
    watch.decide(CarryConversation(ticket=TICKET, lease=LEASE, carries=(Carry(instance=A, slot=1),), instance=B))
    watch.move(A, B, 0)
    assert [used for _, used in watch.over] == [700], "what it took the place of"
    watch.used(B, 5000)
    watch.decide(ForgetInstance(instance=A))
    watch.decide(ForgetInstance(instance=B))
    assert [used for _, used in watch.over] == [700, 10, 5000]


def test_one_that_is_processed_anew_elsewhere_goes_on_there() -> None:
    watch = Watch()
    watch.used(A, 10, 3000)
    watch.decide(CarryConversation(ticket=TICKET, lease=LEASE, carries=(Carry(instance=A, slot=1),), instance=B))
    watch.move(A, B, None)
    watch.used(B, 3100)
    watch.decide(ForgetInstance(instance=A))
    watch.decide(ForgetInstance(instance=B))
    assert [used for _, used in watch.over] == [10, 3100]


@pytest.mark.parametrize("cause", [Cause.GROWN, Cause.SHRUNK])
def test_an_instance_that_ends_for_a_larger_or_smaller_one_ends_no_conversation(cause: Cause) -> None:
    watch = Watch()
    watch.used(A, 3000)
    watch.decide(StopInstance(instance=A, cause=cause, why=""))
    watch.decide(ForgetInstance(instance=A))
    assert watch.over == []
    watch.used(B, 3000)
    watch.decide(StopInstance(instance=B, cause=Cause.IDLE, why=""))
    watch.decide(ForgetInstance(instance=B))
    assert watch.over == [(None, 3000)]


def test_a_carry_that_came_to_nothing_is_forgotten_with_its_lease() -> None:
    watch = Watch()
    watch.used(A, 3000)
    watch.decide(CarryConversation(ticket=TICKET, lease=LEASE, carries=(Carry(instance=A, slot=0),), instance=B))
    watch.decide(EndLease(lease=LEASE, instance=A, owner=ALICE, reason=EndReason.RELEASED))
    watch.move(A, B, 0)
    watch.decide(ForgetInstance(instance=A))
    assert [used for _, used in watch.over] == [3000]


def test_growths_of_the_last_hour_are_counted() -> None:
    times = iter((0.0, 10.0, 3605.0, 3605.0, 3605.0, 3605.0))
    growths = Growths(lambda: next(times))
    for _ in range(3):
        growths.observe(moved(A, B, 0))
    growths.observe(moved(A, A, 0))  # it had enough
    found = growths.per_hour()
    assert (found["m"], found["other"]) == (2, 0)


def test_sizes_are_kept_and_a_broken_file_is_none(tmp_path: Path) -> None:
    path = tmp_path / "contexts.json"
    known = Contexts(path)
    for _ in range(9):
        known.seen("m", ALICE.who, 6000, STEPS)
        known.seen("m", None, 100, STEPS)
    assert not path.exists(), "it is written now and then, not for each of them"
    known.write()
    again = Contexts(path)
    assert again.known == known.known
    assert {whose: sizes.count for whose, sizes in again.known.sizes.items()} == {
        ("m", ALICE.who): 9,
        ("m", None): 18,
    }
    for broken in (
        "",
        "{}",
        '["m"]',
        "[[1]]",
        '[["m", null, 1, 0, 0, {"x": 1}]]',
        '[["m", null, 9, 0, 0, {"3": NaN}]]',
    ):
        path.write_text(broken)
        assert Contexts(path).known.sizes == {}, broken
    path.write_text(json.dumps([["m", None, 1, 0, 0, {"24": 1.0}], ["n", 3, 1, 0, 0, {}]]))
    assert list(Contexts(path).known.sizes) == [("m", None)]


def test_what_is_known_of_is_bounded_and_can_be_forgotten(tmp_path: Path) -> None:
    known = Contexts(tmp_path / "contexts.json")
    for n in range(600):
        known.seen("m", (1, f"{n}"), 100, STEPS)
    known.seen("n", (1, "x"), 100, STEPS)
    assert len(known.known.sizes) == 512
    assert ("m", None) in known.known.sizes, "the last conversation was counted there, too"
    assert ("m", (1, "0")) not in known.known.sizes
    assert known.forget(lambda profile: profile == "m") == 510
    assert set(Contexts(tmp_path / "contexts.json").known.sizes) == {("n", None), ("n", (1, "x"))}
    assert known.forget(lambda profile: profile == "m") == 0
