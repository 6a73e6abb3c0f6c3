"""All nodes of a fleet as their cards and heartbeats say, at a time that is passed in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import inf
from typing import Final

from lmxd.fleet.choosing.delays import Delays
from lmxd.fleet.choosing.prospects import Prospect, Sought, Standing
from lmxd.fleet.choosing.view import NOBODY, Attempt, View, needed
from lmxd.fleet.reports import Heartbeat, NodeCard, Offered

SILENT: Final = 3.0
"""Seconds without a heartbeat after which nothing new is asked of a node."""
REMEMBERED: Final = 60.0
"""Seconds for which the table is still believed when nothing is heard of any node, since NATS is gone."""
_SETTLES: Final = 0.02
"""Seconds until a node's heartbeat can know of a request that was sent to it."""
_SHUNNED: Final = (1.0, 32.0)
"""Seconds for which a node is left alone that could not be reached: first, and at most, doubled each time."""
_FORMER: Final = 4
"""Earlier starts of an agent that are remembered, for a heartbeat of one may still come."""


class Node:
    """One node: its card, its last heartbeat, and what was asked of it since."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.card: NodeCard | None = None
        self.offered: dict[str, Offered] = {}
        self.needed: dict[str, int] = {}
        self.beat = NOBODY
        self.spoke_at = -inf
        """The time at which its last heartbeat was sent, by our own clock."""
        self.excused_at = -inf
        """The time up to which its silence said nothing."""
        self.view = View(NOBODY)
        self.asked: list[Attempt] = []
        self.ended: list[Attempt] = []
        """Requests that were answered since its last heartbeat was sent, at the time of that."""
        self.failures, self.shunned_until = 0, -inf
        self._delays, self._former = Delays(), [NOBODY.started]

    def read(self, card: NodeCard | None) -> None:
        """Take in a card, or that it is gone."""
        self.card = card
        self.offered = {} if card is None else {offered.model: offered for offered in card.models}
        self.needed = {model: needed(offered) for model, offered in self.offered.items()}

    def hear(self, beat: Heartbeat, now: float) -> bool:
        """Take in a heartbeat. Whether it is news: an older one, or one of an earlier start, changes nothing."""
        if beat.started in self._former and beat.started != self.beat.started:
            return False
        if beat.started == self.beat.started and beat.number <= self.beat.number:
            return False
        if beat.started != self.beat.started:
            self._delays = Delays()
            self.failures, self.shunned_until = 0, -inf
            self._former = [*self._former[1 - _FORMER :], beat.started]
        self.beat, self.spoke_at = beat, self._delays.sent_at(beat.sent, now)
        self.asked = [asked for asked in self.asked if asked.at + _SETTLES >= self.spoke_at]
        self.ended = [ended for ended in self.ended if ended.at + _SETTLES >= self.spoke_at]
        self._look_again()
        return True

    def told_time(self, at: float, now: float) -> None:
        """Take in what its clock says, as an answer of its door has it that came ``now``."""
        self._delays.sent_at(at, now)
        self.spoke_at = min(self.spoke_at, self._delays.sent_at(self.beat.sent, now))

    def _look_again(self) -> None:
        self.view = View(self.beat)
        for asked in self.asked:
            self._lower(asked)
        for ended in self.ended:
            self.view.free_slots(ended)

    def end(self, asked: Attempt, now: float) -> None:
        """A request was answered: its slots are vacant, though the last heartbeat may have seen them in use."""
        if asked.prospect.standing is Standing.READY and asked in self.asked:
            self.asked.remove(asked)
            self.view.give_back(asked)
        else:
            self.ended.append(asked._replace(at=now))
            self.view.free_slots(asked)

    def ask(self, asked: Attempt) -> None:
        """Lower what it seems to have by one request, until it says itself what is left."""
        self.asked.append(asked)
        self._lower(asked)

    def bound(self, model: str) -> Standing:
        """The best standing that a request for a model which it offers could have, by a few comparisons."""
        view = self.view
        if model in view.vacant or model in view.coming:
            return Standing.READY
        return view.with_bytes if view.most >= self.needed[model] else view.without_bytes

    def _lower(self, asked: Attempt) -> None:
        offered = self.offered.get(asked.sought.model)
        self.view.lower(asked, 1 if offered is None else offered.slots)

    def speaks(self, at: float) -> bool:
        """Whether it has a card, and had spoken lately at that time."""
        return self.card is not None and at - max(self.spoke_at, self.excused_at) <= SILENT


class NodeTable:
    """The nodes by name. Times are seconds of one clock, which never goes back; all are passed in."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self._by_model: dict[str, dict[str, Node]] = {}
        self._slotted: dict[str, dict[str, Node]] = {}
        """Of a model, the nodes that have instances: of many nodes, these are few."""
        self._last_at = -inf
        """The time at which the newest heartbeat of any node was sent."""
        self._is_lost = False
        """NATS is gone, as its connection says, which is a while after it was frozen."""

    def hear_card(self, card: NodeCard) -> None:
        """Take in a node's card, which replaces the one before."""
        self.forget_card(card.node)
        node = self._node(card.node)
        node.read(card)
        for model in node.offered:
            self._by_model.setdefault(model, {})[card.node] = node

    def forget_card(self, name: str) -> None:
        """A card was deleted, or its time is over: nothing is asked of that node until there is another."""
        node = self._node(name)
        for model in node.offered:
            del self._by_model[model][name]
            if not self._by_model[model]:
                del self._by_model[model]
        node.read(None)

    def hear(self, beat: Heartbeat, now: float) -> bool:
        """Take in a heartbeat. Whether it is news."""
        node, last_at = self._node(beat.node), self._last_at
        before, was_deaf = node.view.slotted, self._is_deaf(now)
        news = node.hear(beat, now)
        self._seen_anew(node, before)
        self._last_at = max(last_at, node.spoke_at)
        if was_deaf and not self._is_deaf(now):
            self._excuse(last_at, now)
        return news

    def told_time(self, name: str, at: float, now: float) -> bool:
        """Take in a node's clock, by its door. Whether its heartbeats lie too far behind: nothing new is asked of it.

        Where all come equally late, as over a slow connection to NATS, they tell nothing of that themselves.
        """
        if (node := self.nodes.get(name)) is None:
            return False
        node.told_time(at, now)
        return not self._is_alive(node, now)

    def _seen_anew(self, node: Node, before: set[str]) -> None:
        """Bring ``_slotted`` up to date. ``before``: the models of which the node had instances."""
        after = node.view.slotted
        for model in before - after:
            del self._slotted[model][node.name]
        for model in after - before:
            self._slotted.setdefault(model, {})[node.name] = node

    def _node(self, name: str) -> Node:
        if name not in self.nodes:
            self.nodes[name] = Node(name)
        return self.nodes[name]

    def lost(self) -> None:
        """NATS is gone: from now on silence says nothing."""
        self._is_lost = True

    def found(self, now: float) -> None:
        """NATS is there again."""
        if self._is_lost:
            self._is_lost = False
            self._excuse(self._last_at, now)

    def _is_deaf(self, now: float) -> bool:
        """Whether silence says nothing: where not one node is heard, NATS or this process was away, not all nodes.

        The table is then believed, as it was when a node spoke last, for ``REMEMBERED`` seconds.
        """
        return self._is_lost or now - self._last_at > SILENT

    def _excuse(self, last_at: float, now: float) -> None:
        """Give nodes that were alive when one spoke last ``SILENT`` seconds to speak."""
        if now - last_at <= REMEMBERED:
            for node in self.nodes.values():
                if node.speaks(last_at):
                    node.excused_at = now

    def alive(self, now: float) -> list[Node]:
        """The nodes of which something may be asked, those that drain included."""
        return [node for node in self.nodes.values() if self._is_alive(node, now)]

    def is_alive(self, name: str, now: float) -> bool:
        """Whether something may be asked of that node."""
        return name in self.nodes and self._is_alive(self.nodes[name], now)

    def _is_alive(self, node: Node, now: float) -> bool:
        if now < node.shunned_until:
            return False
        if self._is_deaf(now):
            return now - self._last_at <= REMEMBERED and node.speaks(self._last_at)
        return node.speaks(now)

    def offering(self, model: str) -> Iterable[Node]:
        """The nodes that have a model on their cards."""
        return self._by_model.get(model, {}).values()

    def slotted(self, model: str) -> Iterable[Node]:
        """The nodes that have instances of a model, up or coming up, and offer it."""
        return [node for node in self._slotted.get(model, {}).values() if model in node.offered]

    def by_bound(self, model: str) -> list[list[Node]]:
        """The nodes that offer a model and have no slot of it, by the best standing that a request could have there."""
        found: list[list[Node]] = [[] for _ in Standing]
        for node in self.offering(model):
            found[node.bound(model)].append(node)
        found[Standing.READY] = []
        return found

    def open(self, nodes: Iterable[Node], now: float) -> Iterator[Node]:
        """The ``nodes`` that may start or serve something: alive, not draining."""
        return (node for node in nodes if not node.beat.draining and self._is_alive(node, now))

    def offers(self, model: str) -> bool:
        """Whether any node has a model, alive or not: what nobody has is unknown, rather than away."""
        return model in self._by_model

    def asked(self, sought: Sought, prospect: Prospect, now: float) -> Attempt:
        """A request goes to a node: what it seems to have is less at once."""
        asked = Attempt(now, sought, prospect)
        self._ask(asked)
        return asked

    def ended(self, asked: Attempt, now: float) -> None:
        """A node has answered what it was asked: it has the slots again at once, for the next of the conversation."""
        node = self.nodes[asked.prospect.node]
        before = node.view.slotted
        node.end(asked, now)
        self._seen_anew(node, before)

    def refused(self, sought: Sought, prospect: Prospect, now: float) -> None:
        """The node had nothing for a request now. It is believed to be full for the model until it says otherwise."""
        self._ask(Attempt(now, sought, prospect, refused=True))

    def _ask(self, attempt: Attempt) -> None:
        node = self.nodes[attempt.prospect.node]
        before = node.view.slotted
        node.ask(attempt)
        self._seen_anew(node, before)

    def failed(self, name: str, now: float) -> None:
        """A node could not be reached, or was silent. It is left alone for a while, each time for longer.

        Requests that fail with one another tell of one failure: a node with many has not failed more often.
        """
        if (node := self.nodes.get(name)) is not None and now >= node.shunned_until:
            first, most = _SHUNNED
            node.shunned_until = now + min(most, first * 2.0 ** min(node.failures, 10))
            node.failures += 1

    def worked(self, name: str) -> None:
        """A node answered."""
        if (node := self.nodes.get(name)) is not None:
            node.failures, node.shunned_until = 0, -inf
