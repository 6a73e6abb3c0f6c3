"""Any history at all: hypothesis drives the core, and the world checks the invariants after every step."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from core.world import GIB, Gpu, World, unified
from examples import examples
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lmxd.core.events import LeaseReleased, LeaseRenewed, LoadBegun, LoadPostponed
from lmxd.core.orders import DrainEnded, DrainRequested, KeepAliveChanged, PinChanged, ResidentsChanged, YieldEnded
from lmxd.core.policy.limit import has_all_instances
from lmxd.core.policy.quantum import load_seconds
from lmxd.core.policy.sleep import wakes
from lmxd.core.rules import Quota, Resident
from lmxd.core.words import Ask, Elsewhere, Failure, Hold, InstanceId, Option, Phase, YieldId

MODELS = st.sampled_from(["a", "b", "c", "d"])
SIZES = {"a": 2.0, "b": 5.0, "c": 11.0, "d": 20.0}


class Histories(RuleBasedStateMachine):
    def devices(self) -> dict[str, Gpu]:
        return {"x": Gpu(capacity=24 * GIB, margin=GIB), "y": Gpu(capacity=16 * GIB, limit=12 * GIB)}

    def __init__(self) -> None:
        super().__init__()
        self.world = World(
            self.devices(),
            queue_depth=4,
            aging=10.0,
            fairness=20.0,
            waited_elsewhere=15.0,
            quantum_loads=0.5,
            grace=5.0,
            quotas={3: Quota(max_leases=2, max_waiting=1, max_bytes=20 * GIB, weight=2.0)},
            group_quotas={100: Quota(max_leases=3, max_bytes=30 * GIB)},
            key_quotas={"anna": Quota(max_leases=2, max_waiting=1, max_bytes=22 * GIB, weight=3.0)},
            default_key=Quota(max_leases=3),
        )

    def _device(self, number: int) -> str:
        return list(self.world.devices)[number % len(self.world.devices)]

    @property
    def lingering(self) -> int:
        """Bytes of dead processes, which may be credited to these for a while."""
        return sum(gpu.lingering for gpu in self.world.devices.values())

    def _instance(self, data: st.DataObject, *phases: Phase) -> InstanceId | None:
        names = sorted(i.id for i in self.world.state.instances.values() if i.phase in phases)
        return data.draw(st.sampled_from(names)) if names else None

    def _divided(self, size: int, rungs: int) -> Iterator[Option]:
        """A model of which less and less is on a GPU, with a part in RAM if that is one of the devices."""
        for rung in range(rungs):
            on_gpu = size * (5 - rung) // 5
            in_ram = {"host": size - on_gpu + GIB} if "host" in self.world.devices else {}
            for gpu in (place for place in self.world.places() if place != "host"):
                yield self.world.placed({gpu: on_gpu} | in_ram, gpu_layers=32 - rung, spills=rung)

    @rule(
        model=MODELS,
        hold=st.sampled_from(list(Hold)),
        wait=st.sampled_from([None, None, 0.0, 1e-300, 5.0]),
        connection=st.integers(1, 4),
        spread=st.integers(1, 3),
        pin=st.booleans(),
        priority=st.integers(-1, 1),
        uid=st.integers(1, 3),
        user=st.sampled_from(["", "anna", "ben"]),
        share=st.sampled_from([True, True, False]),
        deadline=st.sampled_from([None, None, 0.0, 8.0]),
        kind=st.sampled_from(["single", "single", "split", "divided", "hold"]),
        rungs=st.integers(1, 4),
        max_instances=st.sampled_from([None, None, 1, 2]),
        key=st.sampled_from([None, None, "j", "k"]),
        private=st.booleans(),
        sleeps=st.booleans(),
        measures=st.sampled_from([0.0, 0.0, 6.0, 60.0]),
        waited=st.sampled_from([0.0, 0.0, 7.0, 1e6]),
        elsewhere=st.sampled_from([None, None, Elsewhere(), Elsewhere(used=1e14, weight=0.5)]),
    )
    def ask(
        self,
        model: str,
        hold: Hold,
        wait: float | None,
        connection: int,
        spread: int,
        pin: bool,
        priority: int,
        uid: int,
        user: str,
        share: bool,
        deadline: float | None,
        kind: str,
        rungs: int,
        max_instances: int | None,
        key: str | None,
        private: bool,
        sleeps: bool,
        measures: float,
        waited: float,
        elsewhere: Elsewhere | None,
    ) -> None:
        size = int(SIZES[model] * GIB)
        singles = tuple(self.world.placed({name: size}) for name in self.world.places())
        both = self.world.placed(dict.fromkeys(self.world.places()[:2], size // 2 + GIB), split=(1, 1))
        options = {"split": (*singles, both), "divided": tuple(self._divided(size, rungs))}
        self.world.ask(
            model if kind != "hold" else "hold",
            SIZES[model],
            uid=uid,
            user=user,
            gids=(100,) if uid > 1 else (),
            share=share,
            deadline=deadline,
            external=kind == "hold",
            max_instances=max_instances if kind != "hold" else None,
            key=key,
            private_to=(uid, user) if private and kind != "hold" else None,
            measures=measures if kind != "hold" else 0.0,
            variant=kind,
            options=options.get(kind),
            hold=hold,
            ttl=20.0 if hold is Hold.TTL else None,
            wait=wait,
            connection=connection,
            spread=spread,
            pin=pin and model == "a",
            priority=priority,
            waited=waited,
            elsewhere=elsewhere,
            idle_timeout=15.0,
            sleeps=SIZES[model] - 1 if sleeps and "host" in self.world.devices and kind != "hold" else None,
        )

    @rule(data=st.data(), leaves=st.sampled_from([0.1, 0.5, 1.5, 30.0]))
    def sleep(self, data: st.DataObject, leaves: float) -> None:
        if name := self._instance(data, Phase.DOZING):
            self.world.slept(name, leaves)

    @rule(data=st.data())
    def wake(self, data: st.DataObject) -> None:
        if name := self._instance(data, Phase.WAKING):
            self.world.woke(name)

    @rule(data=st.data())
    def neither_sleep_nor_wake(self, data: st.DataObject) -> None:
        if name := self._instance(data, Phase.DOZING, Phase.WAKING):
            self.world.sleep_failed(name)

    @rule(model=MODELS, other=MODELS)
    def nap(self, model: str, other: str) -> None:
        """What random steps seldom do: an instance is put to sleep for another request, if there is room in RAM."""
        if "host" not in self.world.devices:
            return
        for each in (model, other):
            on = {name: SIZES[each] for name in self.world.places() if name != "host"}
            ticket = self.world.ask(each, on, variant="nap", sleeps=SIZES[each] - 1, idle_timeout=15.0)
            for instance in [i.id for i in self.world.state.instances.values() if ticket in i.tickets]:
                self.world.ready(instance, more=1.0)
                self.world.release(ticket)
                self.world.tick(1.0)
                self.world.seen(instance)

    @rule(data=st.data(), more=st.sampled_from([1.0, 1.0, 1.2]))
    def become_ready(self, data: st.DataObject, more: float) -> None:
        if name := self._instance(data, Phase.STARTING):
            self.world.ready(name, more=more)

    @rule(data=st.data(), kind=st.sampled_from([LoadPostponed, LoadBegun]))
    def put_off(self, data: st.DataObject, kind: type[LoadPostponed | LoadBegun]) -> None:
        if name := self._instance(data, Phase.STARTING):
            self.world.happen(kind(at=self.world.now, instance=name))

    @rule(data=st.data(), lingers=st.booleans(), fails=st.booleans())
    def exit(self, data: st.DataObject, lingers: bool, fails: bool) -> None:
        if name := self._instance(data, *(phase for phase in Phase if phase is not Phase.RECLAIMING)):
            failure = Failure(code="crashed", message="it crashed") if fails else None
            self.world.exited(name, failure, lingers=lingers)

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        leases = sorted(self.world.state.leases)
        if leases:
            self.world.happen(LeaseReleased(at=self.world.now, lease=data.draw(st.sampled_from(leases))))

    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        leases = sorted(self.world.state.leases)
        if leases:
            self.world.happen(LeaseRenewed(at=self.world.now, lease=data.draw(st.sampled_from(leases))))

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.world.asked:
            ticket = data.draw(st.sampled_from(self.world.asked))
            self.world.cancel(ticket)

    @rule(connection=st.integers(1, 4))
    def leave(self, connection: int) -> None:
        self.world.leave(connection)

    @rule(data=st.data(), busy=st.booleans(), worked=st.booleans())
    def see(self, data: st.DataObject, busy: bool, worked: bool) -> None:
        if name := self._instance(data, Phase.READY):
            self.world.seen(name, busy=busy, worked=worked)

    @rule(data=st.data())
    def stop(self, data: st.DataObject) -> None:
        if name := self._instance(data, *Phase):
            self.world.stop(name)

    @rule(data=st.data(), pin=st.booleans())
    def pin(self, data: st.DataObject, pin: bool) -> None:
        if name := self._instance(data, *Phase):
            self.world.happen(PinChanged(at=self.world.now, instance=name, pin=pin))

    @rule(data=st.data(), seconds=st.sampled_from([None, 0.0, 4.0]))
    def keep_alive(self, data: st.DataObject, seconds: float | None) -> None:
        if name := self._instance(data, *Phase):
            self.world.happen(KeepAliveChanged(at=self.world.now, instance=name, seconds=seconds))

    @rule(event=st.sampled_from([DrainRequested, DrainEnded, DrainEnded]))
    def drain(self, event: type[DrainRequested | DrainEnded]) -> None:
        self.world.happen(event(at=self.world.now))

    @rule(seconds=st.sampled_from([0.1, 1.0, 4.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.world.tick(seconds)

    @rule()
    def measure(self) -> None:
        self.world.measure()

    @rule(number=st.integers(0, 3), foreign=st.sampled_from([0, 3, 9]))
    def foreign_changes(self, number: int, foreign: int) -> None:
        self.world.devices[self._device(number)].foreign = foreign * GIB
        self.world.measure()

    @rule(number=st.integers(0, 3), size=st.sampled_from([4, 30]), lasts=st.sampled_from([3.0, 60.0]))
    def give_way(self, number: int, size: int, lasts: float) -> None:
        device = self._device(number)
        self.world.give_way(size * GIB, lasts, device=device, id=f"y{device}{lasts}")

    @rule(number=st.integers(0, 3))
    def take_back(self, number: int) -> None:
        self.world.happen(YieldEnded(at=self.world.now, id=YieldId(f"y{self._device(number)}60.0")))

    @rule(model=st.sampled_from(["b", "c"]), keep=st.integers(0, 1), preload=st.booleans())
    def keep(self, model: str, keep: int, preload: bool) -> None:
        ask = Ask(
            profile=model,
            variant="single",
            context=4096,
            slots=1,
            spread=2,
            options=tuple(self.world.placed({name: int(SIZES[model] * GIB)}) for name in self.world.places()),
            idle_timeout=15.0,
        )
        residents = (Resident(ask=ask, keep=keep, preload=preload),)
        self.world.happen(ResidentsChanged(at=self.world.now, residents=residents))

    @rule()
    def memory_returns(self) -> None:
        for gpu in self.world.devices.values():
            gpu.lingering = 0
        self.world.measure()

    @rule(number=st.integers(0, 3), lost=st.booleans())
    def lose(self, number: int, lost: bool) -> None:
        self.world.devices[self._device(number)].unavailable = "lost" if lost else None
        self.world.measure()

    @invariant()
    def headroom_is_never_above_the_truth(self) -> None:
        """What could be promised, plus what is promised, never exceeds what the device physically has for us."""
        for name, gpu in self.world.devices.items():
            account = self.world.account(name)
            if account.unavailable is None and account.headroom > 0:
                used = gpu.others()
                ours = sum(r.charge for r in account.reservations.values() if r.exited_at is None)
                known = account.used == gpu.used()
                assert not known or account.headroom <= gpu.capacity - gpu.margin - used - ours + self.lingering

    @invariant()
    def nobody_is_overtaken_by_who_came_much_later(self) -> None:
        """However long a request says that it waited elsewhere: classes and use move it, and ``waited_elsewhere``."""
        policy = self.world.state.policy
        waiting = [t for t in self.world.state.queue if not t.parked]
        for before, behind in itertools.combinations(waiting, 2):
            classes = (before.ask.priority - behind.ask.priority) * policy.aging
            since = max(behind.asked_at, behind.queued_at or 0.0)
            assert before.asked_at - since <= policy.waited_elsewhere + classes + policy.fairness

    @invariant()
    def nobody_waits_for_what_is_free(self) -> None:
        """The head of the queue is never left standing in front of room enough."""
        state = self.world.state
        if len(state.queue):
            head = state.queue.head
            assert head is not None
            if state.shares.within(head.owner, head.ask.portion, state.policy) is None:
                kin = [i for i in state.live_by_kind.get(head.ask.kind, {}).values() if i.could_serve(head.ask)]
                kin = [i for i in kin if i.checking or not i.strays]
                if any(i.checking and i.serves(head.ask) for i in kin):
                    return  # an engine says in a moment whether another user left work behind
                load = load_seconds(state, head.ask)
                if head.deadline_at is not None and state.now + load > head.deadline_at:
                    return  # a start would be too late for it
                sleeping = wakes(state, head.ask)
                fits = any(
                    state.ledger.fits(option.demand)
                    for option in (*sleeping, *head.ask.options)
                    if not ((option.spills or sleeping) and head.room_being_made)  # for more on a GPU, or for a wake
                )
                assert has_all_instances(state, head) or not fits
                uid = head.owner.uid
                able = [i for i in state.instances.values() if i.serves(head.ask)]
                assert not any(i.is_handed_over(uid, state.now) for i in able)


class SleepyHistories(Histories):
    """The same on two cards beside RAM, where an instance may sleep."""

    def devices(self) -> dict[str, Gpu]:
        return {**super().devices(), "host": Gpu(capacity=40 * GIB, margin=GIB, lags=False)}

    @invariant()
    def nothing_is_credited_without_a_reading(self) -> None:
        """A sleeping instance is charged no less than the last reading showed, and never less than before one."""
        for instance in self.world.state.instances.values():
            if instance.phase is Phase.DOZING and instance.slept_at is None:
                charge = self.world.state.ledger.charge(instance.id)
                assert all(charge[device] >= need for device, need in instance.option.demand.items())


class UnifiedHistories(Histories):
    """The same on a machine whose GPU and RAM are one memory, with a discrete GPU beside it."""

    def devices(self) -> dict[str, Gpu]:
        return {**unified(24), "x": Gpu(capacity=16 * GIB, margin=GIB)}

    @invariant()
    def no_byte_of_the_pool_is_promised_twice(self) -> None:
        pool, views = self.world.account("memory"), [self.world.account("gpu"), self.world.account("host")]
        living = [r for view in views for r in view.reservations.values() if r.exited_at is None]
        assert sum(r.promised for r in living) <= pool.ceiling
        for name, r in pool.reservations.items():
            had = [v.reservations[name] for v in views if name in v.reservations]
            if r.exited_at is None and len(had) == len(self.world.instance(name).option.devices):
                assert r.promised == sum(x.promised for x in had)
                charged = sum(x.charge for x in had)  # of a view that is not seen as it was seen last
                assert r.charge == charged or (r.charge > charged and any(v.unavailable for v in views))


class WellBehaved(Histories):
    """Others use no more than at the start, and no process takes more than it was promised."""

    foreign_changes = None  # type: ignore[assignment]

    @rule(data=st.data(), more=st.sampled_from([1.0, 1.0, 0.3]))
    def become_ready(self, data: st.DataObject, more: float) -> None:
        if name := self._instance(data, Phase.STARTING):
            self.world.ready(name, more=more)

    @invariant()
    def the_machine_never_runs_out_of_memory(self) -> None:
        for memory in self.world.devices.values():
            assert memory.used() <= memory.capacity - memory.margin


class WellBehavedHistories(WellBehaved, UnifiedHistories):
    """On a machine whose GPU and RAM are one memory."""


class WellBehavedSleep(WellBehaved, SleepyHistories):
    """On cards beside RAM."""


Histories.TestCase.settings = settings(max_examples=examples(300), stateful_step_count=50)
TestHistories = Histories.TestCase
UnifiedHistories.TestCase.settings = settings(max_examples=examples(300), stateful_step_count=50)
TestUnifiedHistories = UnifiedHistories.TestCase
WellBehavedHistories.TestCase.settings = settings(max_examples=examples(200), stateful_step_count=50)
TestWellBehavedHistories = WellBehavedHistories.TestCase
SleepyHistories.TestCase.settings = settings(max_examples=examples(100), stateful_step_count=50)
TestSleepyHistories = SleepyHistories.TestCase
WellBehavedSleep.TestCase.settings = settings(max_examples=examples(100), stateful_step_count=50)
TestWellBehavedSleep = WellBehavedSleep.TestCase
