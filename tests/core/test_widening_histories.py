"""Any history of leases that share one cache, and grow in it: the same as of those that move to grow."""

from __future__ import annotations

from core.test_growth_histories import Growths
from core.world import lease_of
from examples import examples
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from lmxd.core.decisions import MoveLease
from lmxd.core.words import Phase, TicketId

SHARE = 8192
"""Tokens of each slot."""
SIZES = {4: 6.0, 8: 11.0}
"""Slots and GiB of instances."""
SLOTS = {4096: 1, 16_384: 3, 65_536: 8}
"""Of a lease with so many tokens."""


class Widenings(Growths):
    """The same card, with room for one instance of each size, or two."""

    def __init__(self) -> None:
        super().__init__()
        self.slots: dict[TicketId, int] = {}
        """The slots that each growth asked for."""

    def size_for(self, slots: int, lease: str = "") -> int:
        """The slots of the least instance that has these, and those that others have by now."""
        shared = [i for i in self.world.state.instances.values() if i.ask.unified and i.accepts]
        own = {i.id: x.slots for i in shared for x in i.leases.values() if lease and x.id == lease_of(lease)}
        wanted = slots + max((i.ask.spread - i.free_slots - own.get(i.id, 0) for i in shared), default=0)
        return next((size for size in SIZES if size >= wanted), 8)

    @rule(
        context=st.sampled_from([4096, 4096, 16_384, 65_536]),
        wait=st.sampled_from([None, 0.0, 20.0]),
        uid=st.sampled_from([7, 8]),
        share=st.booleans(),
    )
    def ask_for_shares(self, context: int, wait: float | None, uid: int, share: bool) -> None:
        self.ask(context, 1, wait, uid, None, share, False)

    def ask(
        self, context: int, spread: int, wait: float | None, uid: int, ttl: float | None, share: bool, apart: bool
    ) -> None:
        spread = self.size_for(SLOTS[context])
        self.world.ask(
            "m",
            SIZES[spread],
            context=spread * SHARE,
            slots=SLOTS[context],
            spread=spread,
            wait=wait,
            uid=uid,
            elastic=True,
            unified=True,
            max_instances=3,
            idle_timeout=120,
            share=share,
        )

    @rule(
        data=st.data(),
        context=st.sampled_from([16_384, 16_384, 65_536]),
        slot=st.sampled_from([0, 1, None]),
        wait=st.sampled_from([None, None, 0.0, 20.0]),
        most=st.sampled_from([None, 1, 2]),
    )
    def widen(self, data: st.DataObject, context: int, slot: int | None, wait: float | None, most: int | None) -> None:
        mine = [t for t in self._leases() if self._is_elastic(t)]
        if mine:
            lease = data.draw(st.sampled_from(mine))
            spread = self.size_for(SLOTS[context], lease)
            growth = self.world.grow(
                lease,
                SIZES[spread],
                context=spread * SHARE,
                slots=SLOTS[context],
                spread=spread,
                slot=slot,
                wait=wait,
                max_instances=most,
            )
            self.slots[growth] = SLOTS[context]

    def grow(
        self,
        data: st.DataObject,
        context: int,
        slot: int | None,
        connection: int | None,
        wait: float | None,
        deadline: float | None,
        apart: bool,
    ) -> None:
        self.widen(data, context, slot, wait, None)

    @rule(data=st.data(), gib=st.sampled_from([6.0, 6.0, None]), spread=st.just(4))
    def need_less(self, data: st.DataObject, gib: float | None, spread: int | None) -> None:
        """The daemon says that the smaller size is enough for what lies in an instance, or that it is not."""
        large = [i.id for i in self.world.state.instances.values() if i.phase is Phase.READY and i.ask.spread == 8]
        if large:
            name = data.draw(st.sampled_from(sorted(large)))
            self.world.needs_less(name, None if gib is None else SIZES[4], context=4 * SHARE, spread=4)

    @invariant()
    def who_grew_has_the_slots_that_were_asked_for(self) -> None:
        for decision in self.world.log[-8:]:
            lease = self.world.state.leases.get(decision.lease) if isinstance(decision, MoveLease) else None
            if isinstance(decision, MoveLease) and lease is not None and decision.ticket in self.slots:
                assert lease.slots >= self.slots[decision.ticket]

    @invariant()
    def no_cache_is_overdrawn(self) -> None:
        for instance in self.world.state.instances.values():
            if instance.ask.unified:
                assert sum(lease.slots for lease in instance.leases.values()) <= instance.ask.spread


Widenings.TestCase.settings = settings(max_examples=examples(150), stateful_step_count=40)
TestWidenings = Widenings.TestCase
