"""The files of saved conversations: each is there as long as somebody is to read it, and no longer."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import pytest

from lmxd.core.books.state import State
from lmxd.core.decisions import Decision, EndLease, ForgetInstance, MoveLease, RefuseLease, StartInstance
from lmxd.core.final_refusals import CANCELLED
from lmxd.core.holders import Lease
from lmxd.core.instances import Instance
from lmxd.core.moves import Carry, Move, Parked
from lmxd.core.reasons import EndReason
from lmxd.core.words import NO_CONNECTION, Ask, DeviceId, Hold, InstanceId, LeaseId, Option, Owner, Phase, TicketId
from lmxd.daemon.launching.ends import SavedFile
from lmxd.daemon.launching.kept import Kept

OLD, NEW = InstanceId("m#1"), InstanceId("m#2")
OPTION = Option(demand={DeviceId("gpu"): 1})
ASK = Ask(profile="m", variant="", context=256, slots=1, spread=1, options=(OPTION,))
OWNER = Owner(uid=7, pid=8, connection=NO_CONNECTION)
STARTS = StartInstance(instance=NEW, ask=ASK, option=OPTION, why="", carries=())
MOVES = MoveLease(
    ticket=TicketId("m-l-1"),
    lease=LeaseId("l-1"),
    instance=NEW,
    before=OLD,
    profile="m",
    owner=OWNER,
    waited=0,
    carried=((0, 0),),
    move=Move.GROWN,
    why="",
)
ENDS = EndLease(lease=LeaseId("l-1"), instance=OLD, owner=OWNER, reason=EndReason.RELEASED)
REFUSED = RefuseLease(ticket=TicketId("t-1"), owner=OWNER, ask=ASK, refusal=CANCELLED, waited=0, moves=LeaseId("l-1"))


class Story:
    """One kept file of ``OLD``, and what is decided."""

    def __init__(self, directory: Path) -> None:
        self.state = State()
        self.directory = directory / "moves"
        self.kept = Kept(self.directory, self.state)
        self.name = self.save()

    def save(self, slot: int = 0) -> str:
        self.directory.mkdir(exist_ok=True)
        file = self.directory / f"{secrets.token_hex(16)}.bin"
        file.write_bytes(b"tokens")
        return self.kept.keep(SavedFile(file, 42, 6), OLD, slot)

    def park(self) -> None:
        parked = Parked(ask=ASK, back=ASK, carries=(Carry(instance=OLD, slot=0, file=self.name),))
        self.state.leases[LeaseId("l-1")] = Lease(
            id=LeaseId("l-1"), instance=OLD, owner=OWNER, hold=Hold.EXPLICIT, slots=1, size=1, priority=0,
            granted_at=0.0, ttl=None, parked=parked,
        )  # fmt: skip

    async def decided(self, *decisions: Decision) -> list[str]:
        """The files that are there when so much was decided by one event."""
        for decision in decisions:
            self.kept.decided(decision)
        await asyncio.sleep(0)
        return sorted(path.name for path in self.directory.iterdir())


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


async def test_the_file_of_a_parked_lease_outlives_its_instance_and_goes_when_the_lease_has_moved(story: Story) -> None:
    story.park()
    assert await story.decided(ForgetInstance(instance=OLD)) == [story.name]
    assert story.kept.find(story.name) == (story.directory / story.name, 42, 6)
    story.state.leases[LeaseId("l-1")].parked = None
    assert await story.decided(MOVES) == []
    with pytest.raises(FileNotFoundError):
        story.kept.find(story.name)


async def test_it_goes_when_the_lease_ends(story: Story) -> None:
    story.park()
    await story.decided(ForgetInstance(instance=OLD))
    story.state.leases.clear()
    assert await story.decided(ENDS) == []


async def test_without_a_lease_the_instance_that_starts_is_to_have_it(story: Story) -> None:
    starts = StartInstance(
        instance=NEW, ask=ASK, option=OPTION, why="", carries=(Carry(instance=OLD, slot=0, file=story.name),)
    )
    assert await story.decided(ForgetInstance(instance=OLD), starts) == [story.name]
    story.kept.let_go(NEW)
    assert await story.decided() == []


async def test_what_nobody_is_to_have_goes_with_its_instance(story: Story) -> None:
    assert await story.decided(STARTS) == [story.name]
    assert await story.decided(ForgetInstance(instance=OLD)) == []


async def test_what_is_saved_once_more_is_there_once(story: Story) -> None:
    second = story.save()
    assert second != story.name
    assert await story.decided() == [second]


async def test_each_slot_has_a_file_and_one_that_is_read_elsewhere_leaves_the_others(story: Story) -> None:
    first, second = story.name, story.save(1)
    assert await story.decided() == sorted((first, second))
    story.park()
    assert await story.decided(ForgetInstance(instance=OLD)) == [first]
    third = story.save(1)
    carries = tuple(Carry(instance=OLD, slot=slot, file=file) for slot, file in ((0, first), (1, third)))
    starts = StartInstance(instance=NEW, ask=ASK, option=OPTION, why="", carries=carries)
    story.state.leases.clear()
    assert await story.decided(ForgetInstance(instance=OLD), starts) == sorted((first, third))
    story.kept.let_go(NEW)
    assert await story.decided() == []


async def test_it_goes_when_its_instance_goes_on_without_it(story: Story) -> None:
    there = Instance(id=OLD, ask=ASK, option=OPTION, phase=Phase.READY, started_at=0.0, active_at=0.0)
    story.state.instances[OLD] = there
    there.saving = True
    assert await story.decided(REFUSED) == [story.name]
    there.saving, there.carries = False, (Carry(instance=OLD, slot=0, file=story.name),)
    assert await story.decided(REFUSED) == [story.name]
    there.worked(1.0)
    assert await story.decided(REFUSED) == []


async def test_what_an_earlier_lmxd_left_goes_but_for_what_its_parked_leases_are_to_have(story: Story) -> None:
    (story.directory / "other.bin").touch()
    story.park()
    later = Kept(story.directory, story.state)
    later.sweep({story.name})
    assert await story.decided() == [story.name]
    story.state.leases.clear()
    later.decided(ENDS)
    assert await story.decided() == []


@pytest.mark.parametrize("name", ["", "../ledger.db", "0" * 32 + "-1.bin", "0" * 32 + ".bin"])
def test_nothing_else_is_found(story: Story, name: str) -> None:
    with pytest.raises(FileNotFoundError, match="is gone"):
        story.kept.find(name)
