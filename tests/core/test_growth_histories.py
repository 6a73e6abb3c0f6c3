"""Any history of leases that grow: engines fail, lmxd is killed, others take the bytes, and conversations get lost."""

from __future__ import annotations

from core.world import GIB, Gpu, World
from examples import examples
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lmxd.core.decisions import EndLease, GrantLease, MoveLease
from lmxd.core.events import ClientLeft, LeaseReleased, LeaseRenewed
from lmxd.core.rules import Quota
from lmxd.core.words import ConnectionId, Failure, Hold, InstanceId, LeaseId, Phase, TicketId

STEPS = {4096: 4.0, 16384: 6.0, 65536: 11.0}
"""Tokens and GiB of the steps of the elastic model."""
CRASHED = Failure(code="crashed", message="it crashed")
ROUNDS = 60
"""Enough for every one of the few dozen requests of a history to have its turn."""


class Growths(RuleBasedStateMachine):
    """A card on which a few small instances fit, or one large one beside one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(
            {"gpu": Gpu(capacity=24 * GIB, margin=GIB)}, quotas={7: Quota(max_leases=2, max_bytes=16 * GIB)}
        )
        self.wanted: dict[TicketId, int] = {}
        """The context that each growth asked for."""
        self.answering: set[InstanceId] = set()
        """Instances with a generation in flight."""
        self._told = 0
        self.held: dict[LeaseId, InstanceId] = {}
        """The leases, and where they are, as their holders know."""

    def _in(self, *phases: Phase) -> list[InstanceId]:
        return [i.id for i in self.world.state.instances.values() if i.phase in phases]

    def _is_elastic(self, ticket: str) -> bool:
        found = self.world.state.instances.get(InstanceId(self.world.home(ticket)))
        return found is None or found.ask.elastic

    def _leases(self) -> list[str]:
        return sorted(f"t{name[1:]}" for name in self.world.state.leases)

    @rule(
        context=st.sampled_from([4096, 4096, 16384]),
        spread=st.sampled_from([1, 1, 2, 3]),
        wait=st.sampled_from([None, 0.0, 20.0]),
        uid=st.sampled_from([7, 8]),
        ttl=st.sampled_from([None, None, 200.0]),
        share=st.booleans(),
        apart=st.booleans(),
    )
    def ask(
        self, context: int, spread: int, wait: float | None, uid: int, ttl: float | None, share: bool, apart: bool
    ) -> None:
        self.world.ask(
            "m",
            STEPS[context],
            context=context,
            spread=spread,
            wait=wait,
            uid=uid,
            elastic=True,
            max_instances=3,
            idle_timeout=120,
            idle_shrink=40,
            share=share,
            apart=self.world.state.instances if apart else (),
            hold=Hold.CONNECTION if ttl is None else Hold.TTL,
            ttl=ttl,
        )

    @rule(gib=st.sampled_from([3.0, 9.0, 20.0]), wait=st.sampled_from([None, 0.0]))
    def ask_for_another_model(self, gib: float, wait: float | None) -> None:
        self.world.ask("other", gib, wait=wait, idle_timeout=60)

    @rule(
        data=st.data(),
        context=st.sampled_from([16384, 16384, 65536]),
        slot=st.sampled_from([0, 0, 1, None]),
        connection=st.sampled_from([None, 999]),
        wait=st.sampled_from([None, None, 0.0, 20.0]),
        deadline=st.sampled_from([None, None, 30.0]),
        apart=st.booleans(),
    )
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
        """``apart``: all instances have conversations that go on."""
        mine = [t for t in self._leases() if self._is_elastic(t)]
        if mine:
            lease = data.draw(st.sampled_from(mine))
            home = self.world.state.instances.get(InstanceId(self.world.home(lease)))
            if slot is not None and home is not None:
                slot %= home.ask.spread
            growth = self.world.grow(
                lease,
                STEPS[context],
                context=context,
                slot=slot,
                apart=self.world.state.instances if apart else (),
                connection=connection,
                wait=wait,
                deadline=deadline,
            )
            self.wanted[growth] = context

    @rule(
        data=st.data(),
        fails=st.sampled_from([False, False, True]),
        slot=st.sampled_from([0, 0, None]),
        ends=st.booleans(),
    )
    def grow_to_the_end(self, data: st.DataObject, fails: bool, slot: int | None, ends: bool) -> None:
        """A growth while most goes well, so that leases do move; or the larger instance fails at the last moment."""
        self.ask(4096, 1, None, 8, None, True, True)
        self.engines(fails=False)
        self.world.measure()
        self.grow(data, 16384, 0, None, None, None, True)
        self.look()
        self.save(lost=False)
        self.engines(fails=False)
        if fails:
            for ticket in [t for t in self.world.state.tickets.values() if t.carrying]:
                self.die_at(InstanceId(ticket.instance or ""))
        self.carry(slot)
        if ends:
            self.finish()

    @rule(slot=st.sampled_from([0, 0, None]))
    def carry(self, slot: int | None) -> None:
        """Conversations arrive, or are to be processed anew."""
        for ticket in [t.id for t in self.world.state.tickets.values() if t.carrying]:
            self.world.carried(ticket, slot)

    @rule(lost=st.sampled_from([False, False, True]))
    def save(self, lost: bool) -> None:
        """Conversations of instances that are to end lie in files, or could not be saved."""
        for name in [i.id for i in self.world.state.instances.values() if i.saving]:
            self.world.saved(name, lost=lost)

    @rule(data=st.data(), gib=st.sampled_from([3.0, 4.0, 5.0, None]), spread=st.sampled_from([None, None, 1]))
    def need_less(self, data: st.DataObject, gib: float | None, spread: int | None) -> None:
        """The daemon says how much context is enough for an instance, or that it needs what it has."""
        ready = [name for name in self._in(Phase.READY) if self.world.instance(name).ask.elastic]
        if ready:
            self.world.needs_less(data.draw(st.sampled_from(sorted(ready))), gib, context=2048, spread=spread)

    @rule(data=st.data(), waits=st.booleans())
    def shrink_to_the_end(self, data: st.DataObject, waits: bool) -> None:
        """A shrink while most goes well, for one who waits or for nobody."""
        self.answer()
        self.world.tick(61)
        self.need_less(data, 3.0, None)
        if waits:
            self.ask_for_another_model(20.0, None)
        self.look()
        self.save(lost=False)
        self.look()
        self.engines(fails=False)
        self.world.measure()
        self.engines(fails=False)
        self.carry(0)

    @rule(data=st.data())
    def report_late(self, data: st.DataObject) -> None:
        if self.wanted:
            self.world.carried(data.draw(st.sampled_from(sorted(self.wanted))), 0)

    @rule(data=st.data())
    def generate(self, data: st.DataObject) -> None:
        """A holder has its instance work."""
        if leases := self._leases():
            name = InstanceId(self.world.home(data.draw(st.sampled_from(leases))))
            if name in self._in(Phase.READY):
                self.answering.add(name)
                self.world.seen(name, busy=True, worked=True)

    @rule()
    def look(self) -> None:
        """The engines say whether they are at work."""
        for name in self._in(Phase.READY):
            if name in self.world.state.instances:
                self.world.seen(name, busy=name in self.answering)

    @rule()
    def answer(self) -> None:
        """All generations end, but no lease does."""
        self.answering.clear()
        self.look()

    @rule()
    def finish(self) -> None:
        """All requests are answered, and the engines say so."""
        for lease in list(self.world.state.leases):
            self.world.happen(LeaseReleased(at=self.world.now, lease=lease))
        self.answering.clear()
        self.world.tick(2)
        self.look()

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        if leases := self._leases():
            self.world.release(data.draw(st.sampled_from(leases)))

    @rule(fails=st.sampled_from([False, False, False, True]))
    def engines(self, fails: bool) -> None:
        """Each engine does what it was told to, or fails."""
        for name in self._in(Phase.STARTING):
            self.world.exited(name, CRASHED) if fails else self.world.ready(name)
        for name in self._in(Phase.STOPPING):
            self.world.exited(name)

    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        if names := self._in(Phase.READY, Phase.STARTING):
            self.die_at(data.draw(st.sampled_from(sorted(names))))

    def die_at(self, name: InstanceId) -> None:
        self.answering.discard(name)
        self.world.exited(name, CRASHED)

    @rule(data=st.data())
    def stop(self, data: st.DataObject) -> None:
        if names := self._in(Phase.READY, Phase.STARTING):
            self.world.stop(data.draw(st.sampled_from(sorted(names))))

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.world.asked:
            self.world.cancel(data.draw(st.sampled_from(self.world.asked)))

    @rule(connection=st.sampled_from([1, 2, 3, 4, 999]))
    def leave(self, connection: int) -> None:
        self.world.happen(ClientLeft(at=self.world.now, connection=ConnectionId(connection)))

    @rule(gib=st.sampled_from([0.0, 0.0, 4.0, 9.0]))
    def foreign(self, gib: float) -> None:
        """Another program comes, and takes no more than nobody was promised; or it goes."""
        card = self.world.devices["gpu"]
        card.foreign = 0
        self.world.measure()
        card.foreign = max(0, min(int(gib * GIB), self.world.account().headroom))
        self.world.measure()

    @rule(seconds=st.sampled_from([0.1, 1.0, 6.0, 31.0, 130.0]))
    def wait(self, seconds: float) -> None:
        self.world.tick(seconds)

    @rule()
    def measure(self) -> None:
        self.world.measure()

    @rule(back=st.booleans())
    def restart(self, back: bool) -> None:
        """lmxd is killed. Its leases are where they were, and those who have them come back, or not."""
        self.world.restart()
        for lease in list(self.world.state.leases.values()) if back else ():
            connection = ConnectionId(int(lease.id[1:]))
            renewed = LeaseRenewed(at=self.world.now, lease=lease.id, connection=connection)
            self.world.happen(renewed)

    @invariant()
    def an_acknowledged_lease_is_where_its_holder_knows_and_is_lost_only_by_its_end(self) -> None:
        for decision in self.world.log[self._told :]:
            match decision:
                case GrantLease():
                    self.held[decision.lease] = decision.instance
                case MoveLease():
                    assert self.held[decision.lease] == decision.before
                    self.held[decision.lease] = decision.instance
                case EndLease():
                    del self.held[decision.lease]
        self._told = len(self.world.log)
        assert self.held == {name: lease.instance for name, lease in self.world.state.leases.items()}

    @invariant()
    def who_grew_has_the_context_that_was_asked_for(self) -> None:
        for move in self.world.all(MoveLease):
            if (found := self.world.state.instances.get(move.instance)) is not None and move.ticket in self.wanted:
                assert found.ask.context >= self.wanted[move.ticket]

    @invariant()
    def no_generation_is_cut_for_a_growth_or_a_shrink(self) -> None:
        ended = {i.id for i in self.world.state.instances.values() if i.ends}
        grown = {name for name, cause in self.world.stopped() if cause in ("grown", "shrunk")}
        assert self.answering.isdisjoint(ended & grown)

    @invariant()
    def the_machine_never_runs_out_of_memory(self) -> None:
        for memory in self.world.devices.values():
            assert memory.used() <= memory.capacity - memory.margin

    @invariant()
    def a_lease_that_is_not_parked_is_on_an_instance_that_serves_it(self) -> None:
        for lease in self.world.state.leases.values():
            if lease.parked is None:
                assert self.world.state.instances[lease.instance].phase is Phase.READY

    def teardown(self) -> None:
        """Whoever asked is answered in the end, but for those who asked a daemon that was killed."""
        world = self.world
        world.devices["gpu"].foreign = 0
        for _ in range(ROUNDS):
            if not world.state.tickets:
                break
            self.engines(fails=False)
            world.measure()
            self.save(lost=False)
            self.carry(0)
            self.answer()
            for lease in [x for x in world.state.leases.values() if x.growing is None]:
                world.happen(LeaseReleased(at=world.now, lease=lease.id))
            world.tick(6)
            self.look()
        assert not world.state.tickets, "nobody waits for ever, though who waits to grow keeps what it has"
        assert all(world.answered[ticket] == (ticket not in world.forgotten) for ticket in world.asked)


Growths.TestCase.settings = settings(max_examples=examples(150), stateful_step_count=40)
TestGrowths = Growths.TestCase
