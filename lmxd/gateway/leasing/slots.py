"""The slots of instances that requests are sent to, so that the least of their prompts is computed again.

llama-server alone gives a prompt to the free slot that has most of it. So an agent that comes next takes the slot of an
idle one, for the system prompt that both have, while other slots stand empty. When the idle one is back, all that was
its own is computed anew.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf
from typing import Final, NamedTuple

from lmxd.gateway.leasing.traces import Trace, gained
from lmxd.rpc.messages import Granted
from lmxd.rpc.notifications import InstanceShrunk

_BESIDE: Final = 64
"""The most instances of a model that may run beside each other whose slots are remembered: those used last."""
GOES_ON: Final = 5.0
"""Seconds after an answer for which its conversation is expected to go on: an agent's pause is shorter, as lmxd has it
of leases."""


class Cells(NamedTuple):
    """The cells of one cache, each for a token: ``of_all`` slots, and those that a request ``takes`` at most."""

    of_all: int
    takes: int


class Before(NamedTuple):
    """The prompt that lay in a slot before the present request, and whether another had gone on with it already."""

    seen: Trace = ()
    went_on: bool = False


class Slots:
    """The slots of one instance, and the prompt that each has seen last. ``seen``: those that it begins with.

    ``context``: the tokens that each has room for.
    """

    def __init__(self, count: int, seen: Sequence[Trace] = (), context: int = 0) -> None:
        self.context = context
        self.seen: list[Trace] = [*seen, *([()] * count)][:count]
        self.tokens = [0] * count
        """Cells of each, as far as they are known: of a request that goes on, all that it may take."""
        self.before = [Before()] * count
        self._going_on: set[int] = set()
        """The slots whose conversation has had a second request: one that has none may never have."""
        self._erased: deque[Trace] = deque(maxlen=count)
        """The prompts that lay in slots which were erased: who goes on with one goes on, though nothing is left."""
        self._last_used = [-inf] * count
        """The time at which the last request in each ended that is still there."""
        self._busy: set[int] = set()
        self._elsewhere = 0
        """Requests in flight of which the engine has chosen the slot."""

    @property
    def are_idle(self) -> bool:
        return not self._busy and not self._elsewhere

    def take(self, prompt: Trace | None) -> int | None:
        """The slot for a prompt, in use from now on. None: for the engine to choose, as where no prompt is known.

        While it has chosen any, which is then nobody else's to know, it chooses all: a request to a busy slot waits.
        """
        free = [slot for slot in range(len(self.seen)) if slot not in self._busy]
        if prompt is None or self._elsewhere or not free:
            self._elsewhere += 1
            return None
        slot = max(free, key=lambda each: (self.saved(each, prompt), -self._last_used[each]))
        self._busy.add(slot)
        self.before[slot] = Before(self.seen[slot], slot in self._going_on)
        self._going_on.discard(slot)
        if self.saved(slot, prompt) or any(gained(seen, prompt) for seen in self._erased):
            self.goes_on(slot)
        self.seen[slot] = prompt
        return slot

    def goes_on(self, slot: int) -> None:
        """Note that its request goes on with a conversation."""
        self._going_on.add(slot)

    def give_back(self, slot: int | None, now: float) -> None:
        """A request that ``take`` gave ``slot`` has ended."""
        if slot is None:
            self._elsewhere -= 1
            return
        self._busy.discard(slot)
        self._last_used[slot] = now

    def are_lived_in(self, now: float) -> bool:
        """Whether each has a conversation that goes on, as far as anybody knows."""
        live = sum(slot in self._busy or now - used < GOES_ON for slot, used in enumerate(self._last_used))
        return live + self._elsewhere >= len(self.seen)

    def live_tokens(self, now: float) -> int:
        """Tokens in slots whose conversations have gone on once, and may again."""
        live = (slot for slot in self._going_on if slot in self._busy or now - self._last_used[slot] < GOES_ON)
        return sum(self.tokens[slot] for slot in live)

    def in_the_way(self, slot: int, cells: int) -> int | None:
        """The idle slot that was used longest ago, if one cache has fewer cells than all slots have tokens."""
        idle = (each for each, tokens in enumerate(self.tokens) if tokens and each != slot and each not in self._busy)
        return min(idle, key=self._last_used.__getitem__, default=None) if sum(self.tokens) > cells else None

    @contextlib.contextmanager
    def erased(self, slot: int) -> Iterator[None]:
        """An idle slot loses what it has, and nobody has it until the block ends."""
        self._erased.append(self.seen[slot])
        self.forget(slot)
        self._busy.add(slot)
        try:
            yield
        finally:
            self._busy.discard(slot)

    def forget(self, slot: int) -> None:
        """Note that the conversation in a slot lies elsewhere from now on."""
        self.seen[slot], self._last_used[slot], self.tokens[slot] = (), -inf, 0

    def saved(self, slot: int, prompt: Trace) -> int:
        """Blocks that are gained in this slot."""
        return gained(self.seen[slot], prompt)

    def has(self, prompt: Trace) -> int | None:
        """The slot in which a conversation lies that goes on with this prompt; None if it lies in none that is free.

        One that began with less than a block left no trace: of a single slot, it is taken to be the one.
        """
        free = [slot for slot in range(len(self.seen)) if slot not in self._busy]
        if len(self.seen) == 1 and not self.seen[0]:
            return 0 if free else None
        found = max(free, key=lambda each: self.saved(each, prompt), default=None)
        return None if found is None or not self.saved(found, prompt) else found

    def touch(self, prompt: Trace, now: float) -> None:
        """Note that the conversation goes on that a prompt goes on with: others lose their cells before it does."""
        if (slot := self.has(prompt)) is not None:
            self._last_used[slot] = now

    def leave(self, slot: int) -> Trace | None:
        """The prompt that an idle slot had, which is gone by that; None without one."""
        if slot in self._busy or slot >= len(self.seen) or not self.seen[slot]:
            return None
        found = self.seen[slot]
        self.forget(slot)
        return found

    def go_on_in(self, other: Slots, slots: Iterable[tuple[int, int]]) -> None:
        """Note that prompts lie in the slots of others now: pairs of a slot here, and one there."""
        for here, there in slots:
            if here < len(self.seen) and there < len(other.seen) and self.seen[here]:
                other.seen[there], other.tokens[there] = self.seen[here], self.tokens[here]
                self.seen[here], self.tokens[here] = (), 0


class InstanceSlots:
    """The slots of every instance that requests are at. ``several``: of any model more than one may run.

    ``clock``: the time in seconds.
    """

    def __init__(self, *, several: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self.several = several
        self._clock = clock
        self._known: dict[str, dict[str, Slots]] = {}
        """Model -> instance -> its slots."""

    @contextlib.contextmanager
    def taken(self, lease: Granted, prompt: Trace | None) -> Iterator[int | None]:
        """The slot for a request on this lease, as long as the block lasts. None: for the engine to choose."""
        slots = self._of(lease)
        if (slot := slots.take(prompt)) is not None:
            slots.tokens[slot] = lease.ctx
        try:
            yield slot
        finally:
            slots.give_back(slot, self._clock())

    def before(self, lease: Granted, slot: int) -> Before:
        """The prompt that lay in a slot of a lease's instance before the request that has taken it."""
        return self._of(lease).before[slot]

    def goes_on(self, lease: Granted, slot: int) -> None:
        """Note that the request that has taken a slot goes on with a conversation, though it did not lie there."""
        self._of(lease).goes_on(slot)

    def of_conversation(self, model: str, prompt: Trace) -> tuple[int, int, str]:
        """Most that is gained at an instance by a conversation that goes on with this prompt, its context, and it.

        Of several with as much it is the one with the largest, and of those the one that was used last: others may have
        ended. Zeros if it lies in none.
        """
        found = (
            (max(slots.saved(slot, prompt) for slot in range(len(slots.seen))), slots.context, instance)
            for instance, slots in reversed(self._known.get(model, {}).items())
        )
        return max((each for each in found if each[0]), key=lambda each: each[:2], default=(0, 0, ""))

    def touch(self, model: str, instance: str, prompt: Trace) -> None:
        """Note that the conversation goes on that a request is for, though it has to wait."""
        if (slots := self._known.get(model, {}).get(instance)) is not None:
            slots.touch(prompt, self._clock())

    def count(self, model: str, instance: str) -> int:
        """The slots of an instance; 0 of one that is not known."""
        slots = self._known.get(model, {}).get(instance)
        return 0 if slots is None else len(slots.seen)

    def lived_in(self, model: str, context: int) -> list[str]:
        """The instances with so much context, each slot of which has a conversation that goes on."""
        now, known = self._clock(), self._known.get(model, {})
        return [name for name, slots in known.items() if slots.context >= context and slots.are_lived_in(now)]

    def crowded(self, model: str, need: int, share: int) -> list[str]:
        """The instances with one cache that lacks the tokens for a need, beside the conversations that go on there.

        A conversation that was asked for once does not count: it may be over. ``share``: tokens of each slot.
        """
        now, known = self._clock(), self._known.get(model, {})
        return [name for name, slots in known.items() if slots.live_tokens(now) + need > len(slots.seen) * share]

    def spares(self, lease: Granted, slot: int, cells: Cells) -> Iterator[int]:
        """The slots of a lease's instance to erase, so that a request in ``slot`` has all its tokens of one cache.

        Each is nobody's until the next one is asked for.
        """
        slots = self._of(lease)
        slots.tokens[slot] = cells.takes
        while (each := slots.in_the_way(slot, cells.of_all)) is not None:
            with slots.erased(each):
                yield each

    def filled(self, lease: Granted, slot: int, asked: int | None, answered: int | None) -> None:
        """Note the tokens that a request has left in the slot that it had, of prompt and answer, if both are known."""
        if asked is not None and answered is not None:
            self._of(lease).tokens[slot] = asked + answered

    def lies_in(self, lease: Granted, prompt: Trace) -> int | None:
        """The slot of a lease's instance in which its conversation lies; None if in none, or nobody can tell."""
        if not lease.alone:
            return None
        return self._of(lease).has(prompt)

    def moved(self, lease: Granted, before: Granted, slot: int | None, prompt: Trace) -> None:
        """A lease has moved, and with it the conversation in ``slot`` of the instance before."""
        if slot is not None:
            self._of(before).forget(slot)
        if lease.slot is not None:
            self._of(lease).seen[lease.slot] = prompt

    def left(self, model: str, instance: str, slot: int) -> tuple[Trace, int] | None:
        """The prompt that lay in an idle slot, and the context there, no more to be found there. None without."""
        slots = self._known.get(model, {}).get(instance)
        if slots is None or (seen := slots.leave(slot)) is None:
            return None
        return seen, slots.context

    def shrunk(self, told: InstanceShrunk) -> None:
        """An instance with less context has taken the place of another."""
        known = self._known.get(told.model, {})
        if (left := known.get(told.before)) is not None and told.instance == told.before:
            left.context = told.ctx
        elif left is not None:
            there = known.setdefault(told.instance, Slots(told.instance_slots, (), told.ctx))
            left.go_on_in(there, told.slots)

    def followed(self, lease: Granted, before: Granted) -> None:
        """The lease has moved, with conversations of which its client knows no prompt just now."""
        if lease.carried:
            self._of(before).go_on_in(self._of(lease), lease.carried)

    def _of(self, lease: Granted) -> Slots:
        """The slots of a lease's instance: one that is new may have the prompts of one that was suspended.

        One of an elastic model is never suspended, and others of it run beside it. Where several of any may, nobody
        can tell which of those that are idle was suspended.
        """
        known = self._known.setdefault(lease.model, {})
        if lease.ctx_most is not None or self.several:
            found = known.pop(lease.instance, None) or Slots(lease.instance_slots, (), lease.ctx)
            while len(known) >= _BESIDE:
                del known[next(iter(known))]
            known[lease.instance] = found
        elif lease.instance not in known:
            idle = [known.pop(name) for name in list(known) if known[name].are_idle]
            known[lease.instance] = Slots(lease.instance_slots, idle[-1].seen if idle else ())
        return known[lease.instance]
