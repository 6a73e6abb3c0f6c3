"""The memory of each user: no other can have it forgotten."""

from __future__ import annotations

from pathlib import Path

from house import House, model

from lmxd.core.decisions import GrantLease, StartInstance
from lmxd.core.words import NO_CONNECTION, Ask, DeviceId, InstanceId, LeaseId, Option, Owner, TicketId
from lmxd.daemon.answering.journal import Journal
from lmxd.daemon.answering.remembered import Remembered

ANNA, BEN = 1001, 1002


def granted(number: int, uid: int, instance: str) -> GrantLease:
    """A grant to a user."""
    return GrantLease(
        ticket=TicketId(f"t-{uid}-{number}"),
        lease=LeaseId(f"l-{uid}-{number}"),
        instance=InstanceId(instance),
        profile="a",
        owner=Owner(uid=uid, pid=1, connection=NO_CONNECTION),
        waited=0.0,
        why="it fits",
    )


def test_a_users_ids_make_way_for_newer_ones_of_that_user_alone() -> None:
    memory: Remembered[int] = Remembered(lambda _: False, most=10)
    memory.put("theirs", BEN, 0)
    for n in range(100):
        memory.put(f"i{n}", ANNA, n)
    assert memory.get("theirs") == 0
    assert [n for n in range(100) if f"i{n}" in memory] == [*range(90, 100)]


def test_what_two_users_share_is_forgotten_when_neither_has_it_among_the_last() -> None:
    memory: Remembered[int] = Remembered(lambda _: False, most=10)
    memory.put("shared", ANNA, 0)
    memory.put("shared", BEN, 1)
    for n in range(20):
        memory.put(f"a{n}", ANNA, n)
    assert memory.get("shared") == 1
    for n in range(20):
        memory.put(f"b{n}", BEN, n)
    assert "shared" not in memory


def test_what_lives_is_never_forgotten() -> None:
    memory: Remembered[int] = Remembered(lambda name: name == "lives", most=10)
    for n, name in enumerate(["lives", *(f"i{n}" for n in range(100))]):
        memory.put(name, ANNA, n)
    assert "lives" in memory
    assert sum(f"i{n}" in memory for n in range(100)) == 9


def test_one_users_many_requests_leave_the_histories_of_others() -> None:
    journal = Journal(lambda name: name == "b#1", dict)
    option = Option(demand={DeviceId("gpu"): 1})
    ask = Ask(profile="hold", variant="hold", context=0, slots=1, spread=1, options=(option,))
    journal.note(granted(0, BEN, "b#1"))
    for n in range(5000):
        name = InstanceId(f"hold#{n}")
        journal.note(StartInstance(instance=name, ask=ask, option=option, why="for it: it fits"))
        journal.note(granted(n, ANNA, name))
    for subject in ("b#1", "t-1002-0", "l-1002-0"):
        history = journal.get(subject)
        assert history is not None, subject
        assert history.owners == {BEN}
    assert journal.get("l-1001-0") is None, "there is an end to what is remembered of one"


async def test_a_hold_takes_no_place_among_the_logs(tmp_path: Path) -> None:
    model(tmp_path, "a", buffers=[])
    async with (
        House(
            tmp_path, models={"a": {"estimated_memory_gb": 0.4}}, gpu={"device": "host", "max_memory_gb": 1}
        ).open() as h,
        h.client() as lmxd,
    ):
        lease = await lmxd.request("a")
        held = await lmxd.hold(2**20)
        assert lease.instance in h.daemon.answers.users
        assert held.instance not in h.daemon.answers.users
        assert (await lmxd.logs(held.instance)).lines == []
        await lmxd.release(held.lease)
        await h.until(lambda: held.instance not in h.phases())
        assert (await lmxd.explain(held.lease)).steps
