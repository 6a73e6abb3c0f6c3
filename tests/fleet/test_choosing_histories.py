"""Any history at all: heartbeats come late, twice, out of order or never, nodes start again, and requests are sent."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from math import inf

from examples import examples
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fleet.reported import GIB, beat, card
from lmxd.fleet.choosing.prospects import Prospect, Sought, Standing
from lmxd.fleet.choosing.ranking import BEST, MOST, ranking
from lmxd.fleet.choosing.table import REMEMBERED, SILENT, NodeTable
from lmxd.fleet.choosing.view import Attempt, View
from lmxd.fleet.reports import Heartbeat

NODES = ["n0", "n1", "n2", "n3", "n4"]
SIZES = {"a": 6.0, "b": 14.0}
SLOTS = 2


@dataclass
class Truth:
    """A node as it is: ``slots``: vacant ones by model. ``clock``: seconds by which its clock is wrong."""

    clock: float
    starts: int = 0
    number: int = 0
    free: float = 24.0
    slots: dict[str, int] = field(default_factory=dict)
    loading: set[str] = field(default_factory=set)
    draining: bool = False

    def serve(self, model: str) -> bool:
        """The only commit. False: nothing for it now."""
        if self.draining:
            return False
        if not self.slots.get(model):
            if self.free < SIZES[model]:
                return False
            self.free -= SIZES[model]
            self.slots[model] = SLOTS
            self.loading.add(model)
        self.slots[model] -= 1
        return True

    def speak(self, name: str, now: float) -> Heartbeat:
        self.number += 1
        return beat(
            name,
            self.number,
            now + self.clock,
            started=f"{self.starts}",
            free=self.free,
            vacant={model: n for model, n in self.slots.items() if model not in self.loading},
            loading={model: n for model, n in self.slots.items() if model in self.loading},
            draining=self.draining,
        )


def worth(prospect: Prospect) -> tuple[float, float, float]:
    return prospect.standing, prospect.cost, prospect.eta


class Choosing(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.chance = random.Random(0)
        self.table = NodeTable()
        self.truth = {name: Truth(clock=1e4 * n - 2e4) for n, name in enumerate(NODES)}
        self.flying: list[tuple[float, Heartbeat]] = []
        self.sent: dict[tuple[str, str, int], float] = {}
        self.last_asked = dict.fromkeys(NODES, -inf)
        self.answering: list[Attempt] = []
        self.lost = False
        self.excused_at = -inf
        for name in NODES:
            self.table.hear_card(card(name, SIZES, slots=SLOTS))
            self.speak(name)
        for _ in NODES:
            self.hear(0)

    @rule(name=st.sampled_from(NODES))
    def speak(self, name: str) -> None:
        said = self.truth[name].speak(name, self.now)
        self.sent[name, said.started, said.number] = self.now
        self.flying.append((self.now, said))

    @property
    def last_at(self) -> float:
        return max(node.spoke_at for node in self.table.nodes.values())

    @property
    def deaf(self) -> bool:
        """Nobody is heard."""
        return self.lost or self.now - self.last_at > SILENT

    @precondition(lambda self: self.flying and not self.lost)
    @rule(number=st.integers(0, 20), again=st.booleans())
    def hear(self, number: int, again: bool = False) -> None:
        _, said = self.flying[number % len(self.flying)]
        before, deaf = self.table.nodes[said.node].beat, self.deaf
        news = self.table.hear(said, self.now)
        after = self.table.nodes[said.node].beat
        assert after is (said if news else before)
        if before.started == said.started:
            assert news == (said.number > before.number)
        if deaf and not self.deaf:
            self.excused_at = self.now
        if not again:
            del self.flying[number % len(self.flying)]

    @precondition(lambda self: self.flying)
    @rule(number=st.integers(0, 20))
    def lose(self, number: int) -> None:
        del self.flying[number % len(self.flying)]

    @rule(seconds=st.sampled_from([0.01, 0.2, 1.0, 2.5, 30.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(model=st.sampled_from(list(SIZES)), home=st.sampled_from([None, *NODES]))
    def ask(self, model: str, home: str | None) -> None:
        sought = Sought(model=model)
        order = ranking(self.table, sought, self.now, self.chance.randrange, home)
        self.check(order, sought, home)
        for prospect in order[:3]:
            self.last_asked[prospect.node] = self.now
            if self.truth[prospect.node].serve(model):
                self.answering.append(self.table.asked(sought, prospect, self.now))
                self.table.worked(prospect.node)
                break
            self.table.refused(sought, prospect, self.now)
            node = self.table.nodes[prospect.node]
            now = node.view.prospect(node.name, node.offered[model], sought)
            assert now.standing >= Standing.WAITS, "it has just said no"

    def check(self, order: list[Prospect], sought: Sought, home: str | None) -> None:
        """Of all nodes that may be asked the best come first, and none of these is left out."""
        names = [p.node for p in order]
        alive = {node.name for node in self.table.alive(self.now)}
        assert len(set(names)) == len(names) <= MOST
        able = [node for n in alive if not (node := self.table.nodes[n]).beat.draining]
        worths = sorted(worth(node.view.prospect(node.name, node.offered[sought.model], sought)) for node in able)
        assert set(names) <= {node.name for node in able}
        assert bool(order) == bool(able)
        found, best = ([w for w in some if w[0] == worths[0][0]] for some in (sorted(map(worth, order)), worths))
        assert found[:BEST] == best[:BEST]
        behind = [worth(p) for p in order[1:]]
        assert behind == sorted(behind)
        if order and home in names and order[names.index(home)].standing is Standing.READY:
            assert names[0] == home

    @rule(name=st.sampled_from(NODES))
    def cannot_be_reached(self, name: str) -> None:
        self.table.failed(name, self.now)
        assert not self.table.is_alive(name, self.now)

    @rule(name=st.sampled_from(NODES), draining=st.booleans())
    def drain(self, name: str, draining: bool) -> None:
        self.truth[name].draining = draining

    @rule(name=st.sampled_from(NODES))
    def start_again(self, name: str) -> None:
        truth = self.truth[name]
        truth.starts, truth.number, truth.clock = truth.starts + 1, 0, truth.clock - 500

    @rule(name=st.sampled_from(NODES))
    def end_instances(self, name: str) -> None:
        truth = self.truth[name]
        truth.slots, truth.loading, truth.free = {}, set(), 24.0

    @rule(name=st.sampled_from(NODES))
    def load(self, name: str) -> None:
        self.truth[name].loading.clear()

    @precondition(lambda self: self.answering)
    @rule(number=st.integers(0, 20))
    def answer(self, number: int) -> None:
        """A node has its slot again, and the gateway knows it first."""
        answered = self.answering.pop(number % len(self.answering))
        name, model = answered.prospect.node, answered.sought.model
        if model in self.truth[name].slots:  # or the instance has ended meanwhile
            self.truth[name].slots[model] += 1
        self.last_asked[name] = self.now
        before = self.table.nodes[name].view.vacant.get(model, 0)
        self.table.ended(answered, self.now)
        assert self.table.nodes[name].view.vacant[model] == before + 1

    @rule(gone=st.booleans())
    def nats(self, gone: bool) -> None:
        if gone:
            self.table.lost()
        else:
            self.table.found(self.now)
            self.excused_at = self.now if self.lost else self.excused_at
        self.lost = gone

    @invariant()
    def whoever_is_alive_has_spoken_lately(self) -> None:
        """No heartbeat counts as newer than it is by more than the least delay, which is unknown, allows."""
        for node in self.table.alive(self.now):
            until = self.last_at if self.deaf else self.now
            assert self.now - until <= REMEMBERED
            assert until - max(node.spoke_at, self.excused_at) <= SILENT
            told = self.sent.get((node.name, node.beat.started, node.beat.number), -inf)
            assert told - 1e-6 <= node.spoke_at <= self.now

    @invariant()
    def nodes_with_instances_are_found_by_their_models(self) -> None:
        for model in SIZES:
            found = {node.name for node in self.table.slotted(model)}
            assert found == {node.name for node in self.table.offering(model) if model in node.view.slotted}

    @invariant()
    def no_prospect_is_better_than_its_bound(self) -> None:
        for node in self.table.nodes.values():
            for model, offered in node.offered.items():
                assert node.view.prospect(node.name, offered, Sought(model=model)).standing >= node.bound(model)

    @invariant()
    def the_table_only_ever_lowers(self) -> None:
        """Nothing is believed to be there that the last heartbeat did not say; and all of it, if nothing was asked."""
        for node in self.table.nodes.values():
            plain = View(node.beat)
            for device, free in node.view.free.items():
                assert free <= plain.free[device] <= 24 * GIB
            for model, vacant in node.view.vacant.items():
                given_back = sum(ended.sought.model == model for ended in node.ended)
                assert vacant <= plain.vacant.get(model, 0) + given_back
            if node.spoke_at > self.last_asked[node.name] + 0.1:
                assert (node.view.free, node.view.vacant, node.view.refused) == (plain.free, plain.vacant, set())
                assert node.view.coming == plain.coming


Choosing.TestCase.settings = settings(max_examples=examples(100), stateful_step_count=60)
TestChoosing = Choosing.TestCase
