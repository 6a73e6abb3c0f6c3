"""Refusals in words: each of the facts is in the message, and none of them twice."""

from __future__ import annotations

import re
from collections import Counter

from core.world import GIB, Gpu, World
from hypothesis import given
from hypothesis import strategies as st

from lmxd.core.answers import Holder, Refusal, Shortfall, Turn
from lmxd.core.decisions import RefuseLease
from lmxd.core.reasons import RefusalCode
from lmxd.core.rules import Quota
from lmxd.core.words import DeviceId, InstanceId
from lmxd.daemon.answering.refused import message

holders = st.lists(
    st.builds(
        Holder, st.from_regex(r"[a-z]{3,8}#[1-9]", fullmatch=True), st.integers(1, 2**40), st.just("ready"),
        st.integers(0, 3), st.floats(0, 10**6),
    ),
    max_size=15,
    unique_by=lambda held: held.name,
)  # fmt: skip


def shortfall(number: int, held: list[Holder], unavailable: str | None = None) -> Shortfall:
    device = DeviceId(f"GPU-{number}1a4c5e8-1111-2222-3333-444455556666")
    return Shortfall(
        device=device,
        need=(17 + number) * GIB,
        have=number * GIB,
        ceiling=22 * GIB,
        capacity=24 * GIB,
        holders=(*held, Holder("foreign", GIB // 3, "foreign")),
        unavailable=unavailable,
        called={device: f"GPU {number}"},
    )


@given(holders, st.integers(0, 2), st.sampled_from(list(RefusalCode)))
def test_every_instance_device_and_figure_is_said_once(held: list[Holder], used: int, code: RefusalCode) -> None:
    turns = [Turn(instance=InstanceId(h.name), closes_in=5.0, price=2.5) for h in held[:used]]
    elsewhere = Turn(instance=InstanceId("elsewhere#1"), closes_in=0.0, price=2.5)
    refusal = Refusal(
        code=code, message="there is no room now", shortfalls=(shortfall(0, held),), turns=(*turns, elsewhere)
    )
    said = message(refusal)
    names = Counter(re.findall(r"\S+#\d", said)) + Counter(re.findall(r"GPU \d", said))
    assert max(names.values()) == 1
    assert names["elsewhere#1"] == names["GPU 0"] == 1
    assert all(names[h.name] for h in held) or f"{len(held)} instances" in said
    assert "17.00 GiB are needed on GPU 0, 0.00 are free" in said
    assert "GPU-01a4" not in said


def test_a_holder_of_bytes_says_how_long_it_goes_on() -> None:
    held = [Holder("a#1", 6 * GIB, "ready", 1, 12.0)]
    turn = Turn(instance=InstanceId("a#1"), closes_in=5.0, price=2.5)
    refusal = Refusal(
        code=RefusalCode.NO_CAPACITY,
        message="there is no room now",
        shortfalls=(shortfall(0, held), shortfall(1, [], "NVML: GPU is lost")),
        turns=(turn,),
    )
    assert message(refusal) == (
        "there is no room now: 17.00 GiB are needed on GPU 0, 0.00 are free (held by a#1 6.00 for 12 s, which serves"
        " those who want it for up to 5 s more (loading both models takes 2.5 s), foreign 0.33); GPU 1 is unavailable"
        " (NVML: GPU is lost)"
    )


def test_of_many_holders_the_number_is_told() -> None:
    held = [Holder(f"a#{n}", int(1.4 * GIB), "ready", 1, 12.0) for n in range(1, 16)]
    refusal = Refusal(code=RefusalCode.NO_CAPACITY, message="there is no room now", shortfalls=(shortfall(0, held),))
    assert message(refusal).endswith("(held by 15 instances 21.00, foreign 0.33)")


def last(world: World) -> Refusal:
    refused = world.last(RefuseLease)
    assert isinstance(refused, RefuseLease)
    return refused.refusal


def test_a_model_without_a_slot_or_room_is_refused_without_its_instances_named_twice() -> None:
    world = World({"gpu": Gpu(capacity=10 * GIB)})
    world.ask("a", 6)
    world.ready("a#1")
    world.ask("a", 6, wait=0)
    refusal = last(world)
    assert message(refusal).count("a#1") == 1
    assert "slots: 2 in its profile" in refusal.remedy


def test_a_slot_is_no_remedy_for_a_model_that_does_not_run() -> None:
    world = World({"gpu": Gpu(capacity=10 * GIB)})
    world.ask("a", 6)
    world.ready("a#1")
    world.ask("b", 6, wait=0)
    assert "slots:" not in last(world).remedy


def test_where_no_device_answers_that_is_said_once() -> None:
    world = World({"gpu": Gpu(capacity=10 * GIB)})
    world.ask("a", 6)
    world.ready("a#1")
    world.devices["gpu"].unavailable = "it is lost"
    world.measure()
    world.ask("b", 6, wait=0)
    assert message(last(world)) == "it has no device to run on: gpu is unavailable (it is lost)"


def test_a_queue_that_one_user_fills_is_said_in_one_number() -> None:
    world = World({"gpu": Gpu(capacity=10 * GIB)}, queue_depth=3)
    world.ask("a", 6)
    world.ready("a#1")
    for _ in range(4):
        world.ask("b", 8, uid=7)
    assert last(world).message == "3 requests of this class or a higher one wait already: all of uid 7"
    assert message(last(world)).count(": ") == 1


def test_a_quota_of_bytes_is_said_in_gib() -> None:
    world = World(quotas={7: Quota(max_bytes=10 * GIB)})
    world.ask("a", 6, uid=7)
    world.ready("a#1")
    world.ask("b", 8, uid=7, wait=0)
    assert message(last(world)) == "uid 7 holds 6.00 of at most 10.00 GiB, and this takes 8.00"
