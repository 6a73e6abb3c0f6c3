"""Which nodes one request asks, in which order, and what becomes of it when they refuse, are away, or change."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest
from waiting import turns, until

from fleet.reported import beat, card
from lmxd.errors import LmxdError
from lmxd.fleet.choosing.prospects import Prospect, Sought
from lmxd.fleet.choosing.table import NodeTable
from lmxd.fleet.finding.errors import Away, NodeRefusal
from lmxd.fleet.finding.finding import Finding
from lmxd.fleet.finding.places import QueuePlaces
from lmxd.fleet.finding.wanted import WantedAnswer
from lmxd.fleet.gateway.metrics import FleetMetrics

FULL = LmxdError("no_capacity", "there is no room", "ask again")
WRONG = LmxdError("invalid_params", "temperature is wrong")
BROKEN = LmxdError("launch_failed", "its engine does not start")


@dataclass(frozen=True)
class Served:
    node: str


@dataclass
class PlayedNodes:
    """Nodes as one request meets them. ``says``: what each does when it is asked; a future is waited for."""

    says: Mapping[str, Away | LmxdError | asyncio.Future[None] | None]
    asked: list[tuple[str, float | None]] = field(default_factory=list)
    """The nodes that were asked, and how long it would have waited there."""
    left: list[str] = field(default_factory=list)

    async def ask(self, prospect: Prospect, wait: float | None) -> Served:
        name = prospect.node
        self.asked.append((name, wait))
        said = self.says.get(name)
        if isinstance(said, asyncio.Future):
            if wait == 0:
                raise NodeRefusal(name, 429, FULL)
            try:
                await asyncio.shield(said)
            except asyncio.CancelledError:
                self.left.append(name)
                raise
        elif isinstance(said, Away):
            raise said
        elif said is not None:
            raise NodeRefusal(name, {"no_capacity": 429, "invalid_params": 400}.get(said.code, 502), said)
        return Served(name)

    def drop(self, asked: asyncio.Task[Served]) -> None:
        asked.cancel()


class Fleet:
    """Nodes with a model ``m``. ``ready``: the slots that each has; ``etas``: of those with a queue."""

    def __init__(self, ready: Mapping[str, int], etas: Mapping[str, float] | None = None) -> None:
        self.now, self.table = 100.0, NodeTable()
        self.places = QueuePlaces(self.table)
        for name, slots in ready.items():
            self.table.hear_card(card(name, {"m": 8}))
            self.hear(name, 1, slots, (etas or {}).get(name, 1.0))
        metrics = FleetMetrics(self.table, lambda: self.now)
        self.finding = Finding(self.table, self.places, metrics, lambda _: 0, lambda: self.now)

    def hear(self, node: str, number: int, slots: int, eta: float = 1.0) -> None:
        vacant, waiting = {"m": slots}, 0 if slots else 1
        self.table.hear(beat(node, number, self.now, vacant=vacant, waiting=waiting, eta=eta), self.now)
        self.places.heard(node, self.now)

    async def answer(self, nodes: PlayedNodes, *, wait: float = 60.0, session: str = "") -> Served:
        wanted = WantedAnswer(sought=Sought(model="m", session=session), user="me", wait=wait, since=self.now)
        return await self.finding.answer(wanted, nodes, lambda _: None)


async def test_ready_nodes_that_have_failed_leave_others_to_be_asked() -> None:
    """Four that are ready are enough to choose from; three tries and a place in the queue are spent on them."""
    fleet = Fleet({"n1": 1, "n2": 1, "n3": 1, "n4": 1, "full": 0})
    nodes = PlayedNodes(dict.fromkeys(("n1", "n2", "n3", "n4"), BROKEN))
    assert (await fleet.answer(nodes)).node == "full"
    assert sorted(name for name, _ in nodes.asked) == ["full", "n1", "n2", "n3", "n4"]


async def test_the_node_with_most_vacant_slots_is_asked_at_once() -> None:
    nodes = PlayedNodes({})
    assert await Fleet({"a": 1, "b": 3}).answer(nodes) == Served("b")
    assert nodes.asked == [("b", 0.0)]


@pytest.mark.parametrize("said", [FULL, BROKEN, Away("b", "it is silent")])
async def test_another_is_asked_after_one_that_refuses_fails_or_is_away(said: LmxdError) -> None:
    nodes = PlayedNodes({"b": said})
    assert await Fleet({"a": 1, "b": 3}).answer(nodes) == Served("a")
    assert nodes.asked == [("b", 0.0), ("a", 0.0)]


async def test_what_is_wrong_with_a_request_is_told_by_the_first_node() -> None:
    nodes = PlayedNodes({"b": WRONG})
    with pytest.raises(NodeRefusal, match="temperature is wrong"):
        await Fleet({"a": 1, "b": 3}).answer(nodes)
    assert nodes.asked == [("b", 0.0)]


async def test_a_conversation_goes_on_where_it_was() -> None:
    fleet = Fleet({"a": 3, "b": 2})
    assert await fleet.answer(PlayedNodes({"a": BROKEN}), session="s") == Served("b")
    assert await fleet.answer(PlayedNodes({}), session="s") == Served("b")
    assert await fleet.answer(PlayedNodes({}), session="another") == Served("a")


async def test_where_all_are_full_it_waits_at_the_one_that_will_serve_it_first() -> None:
    nodes = PlayedNodes({})
    assert await Fleet({"a": 0, "b": 0}, {"a": 30.0, "b": 5.0}).answer(nodes) == Served("b")
    assert nodes.asked == [("b", 60.0)]


async def test_a_dead_node_is_never_asked_twice() -> None:
    gone = {"a": Away("a", "gone"), "b": Away("b", "gone")}
    nodes = PlayedNodes(gone)
    with pytest.raises(LmxdError, match=r"no node that has m answers: node a .*; node b"):
        await Fleet({"a": 2, "b": 1}).answer(nodes)
    assert sorted(nodes.asked) == [("a", 0.0), ("b", 0.0)]


async def test_a_refusal_is_the_answer_when_its_time_is_over() -> None:
    with pytest.raises(NodeRefusal) as refused:
        await Fleet({"a": 0}).answer(PlayedNodes({"a": FULL}), wait=0)
    assert (refused.value.code, refused.value.status, refused.value.node) == ("no_capacity", 429, "a")


async def waits_at_a(fleet: Fleet, nodes: PlayedNodes) -> asyncio.Task[Served]:
    asked = asyncio.create_task(fleet.answer(nodes))
    await until(lambda: nodes.asked == [("a", 60.0)])
    return asked


async def test_it_leaves_a_queue_for_a_node_that_turns_out_to_have_room() -> None:
    fleet, turn = Fleet({"a": 0, "b": 0}, {"a": 5.0, "b": 30.0}), asyncio.get_running_loop().create_future()
    nodes = PlayedNodes({"a": turn})
    asked = await waits_at_a(fleet, nodes)
    fleet.now += 1
    fleet.hear("b", 2, 1)
    assert await asked == Served("b")
    assert nodes.asked == [("a", 60.0), ("b", 0.0)]
    await until(lambda: nodes.left == ["a"])
    assert len(fleet.places) == 0


async def test_it_keeps_its_place_where_the_other_node_has_no_room_after_all() -> None:
    fleet, turn = Fleet({"a": 0, "b": 0}, {"a": 5.0, "b": 30.0}), asyncio.get_running_loop().create_future()
    nodes = PlayedNodes({"a": turn, "b": FULL})
    asked = await waits_at_a(fleet, nodes)
    fleet.now += 1
    fleet.hear("b", 2, 1)
    await until(lambda: nodes.asked[-1] == ("b", 0.0))
    turn.set_result(None)
    assert await asked == Served("a")
    assert nodes.left == []


async def test_it_leaves_a_node_whose_heartbeats_turn_out_to_be_old() -> None:
    """What made that the best one was so 10 s ago."""
    fleet, turn = Fleet({"a": 0, "b": 0}, {"a": 5.0, "b": 30.0}), asyncio.get_running_loop().create_future()
    nodes = PlayedNodes({"a": turn})
    asked = await waits_at_a(fleet, nodes)
    since = fleet.now
    fleet.now += 2
    fleet.hear("b", 2, 0, 30.0)
    assert not fleet.table.told_time("b", fleet.now, fleet.now)
    assert fleet.table.told_time("a", fleet.now + 8, fleet.now), "it sent its heartbeat at 100, and 110 was 2 s later"
    fleet.places.leave("a")
    assert await asked == Served("b")
    assert nodes.asked == [("a", 60.0), ("b", 60.0 - (fleet.now - since))]
    await until(lambda: nodes.left == ["a"])


async def test_it_stays_at_a_node_that_is_not_believed_where_there_is_no_other() -> None:
    fleet, turn = Fleet({"a": 0}, {"a": 5.0}), asyncio.get_running_loop().create_future()
    nodes = PlayedNodes({"a": turn})
    asked = await waits_at_a(fleet, nodes)
    fleet.places.leave("a")
    await turns(3)
    turn.set_result(None)
    assert await asked == Served("a")
    assert (nodes.asked, nodes.left) == ([("a", 60.0)], [])


async def test_nothing_is_left_of_a_client_that_leaves() -> None:
    fleet, turn = Fleet({"a": 0}), asyncio.get_running_loop().create_future()
    nodes = PlayedNodes({"a": turn})
    asked = await waits_at_a(fleet, nodes)
    asked.cancel()
    await until(lambda: nodes.left == ["a"])
    assert len(fleet.places) == 0


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda fleet: setattr(fleet, "now", fleet.now + 70), "stopped", "nothing has been heard of any node"),
        (
            lambda fleet: fleet.table.failed("a", fleet.now),
            "stopped",
            "m is at a alone, of which none can be asked now",
        ),
        (lambda fleet: fleet.table.forget_card("a"), "stopped", "nothing has been heard of any node"),
        (
            lambda fleet: fleet.table.hear_card(card("a", {"other": 8})),
            "unknown_model",
            re.escape("no node has a model 'm' (there are: other)"),
        ),
        (lambda fleet: fleet.table.hear(beat("a", 2, fleet.now, draining=True), fleet.now), "stopped", "m is at a"),
    ],
)
async def test_where_no_node_can_be_asked_the_reason_is_told(
    change: Callable[[Fleet], object], code: str, words: str
) -> None:
    fleet = Fleet({"a": 1})
    change(fleet)
    with pytest.raises(LmxdError, match=words) as refused:
        await fleet.answer(PlayedNodes({}))
    assert refused.value.code == code


async def test_the_table_is_believed_for_a_minute_when_nats_is_gone() -> None:
    fleet = Fleet({"a": 1})
    fleet.table.lost()
    fleet.now += 59
    assert await fleet.answer(PlayedNodes({})) == Served("a")
    fleet.now += 2
    with pytest.raises(LmxdError, match="nothing has been heard"):
        await fleet.answer(PlayedNodes({}))
