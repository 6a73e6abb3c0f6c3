"""Any history of models that take turns on a card, where most of the time one sleeps, wakes, or fails to."""

from __future__ import annotations

from core.world import GIB, Gpu, World
from examples import examples
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lmxd.core.events import LeaseReleased
from lmxd.core.words import Failure, InstanceId, Phase

SIZES = {"a": 10.0, "b": 15.0, "c": 20.0, "d": 21.5}
CRASHED = Failure(code="crashed", message="it crashed")
ROUNDS = 60
"""Enough for every one of the few dozen requests of a history to have its turn."""


class Turns(RuleBasedStateMachine):
    """Engines do what they are told, or not; the card has no room for two, and RAM for the weights of two or three."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World({"gpu": Gpu(capacity=24 * GIB, margin=GIB), "host": Gpu(capacity=48 * GIB, lags=False)})

    def _in(self, *phases: Phase) -> list[InstanceId]:
        return [i.id for i in self.world.state.instances.values() if i.phase in phases]

    @rule(model=st.sampled_from(list(SIZES)), wait=st.sampled_from([None, None, 0.0, 20.0]), spread=st.integers(1, 2))
    def ask(self, model: str, wait: float | None, spread: int) -> None:
        sleeps = SIZES[model] - 4
        self.world.ask(model, {"gpu": SIZES[model]}, sleeps=sleeps, wait=wait, spread=spread, idle_timeout=120)

    @rule(
        model=st.sampled_from(list(SIZES)),
        leaves=st.sampled_from([0.3, 0.8]),
        takes=st.sampled_from([1.0, 0.6]),
        wakes=st.sampled_from(["well", "well", "not", "dying"]),
    )
    def take_a_turn(self, model: str, leaves: float, takes: float, wakes: str) -> None:
        """A request is served while most goes well, so that there is somebody to sleep, and to be woken."""
        self.finish()
        self.ask(model, None, 1)
        for _ in range(4):
            if wakes != "well":
                self._wake_badly(dies=wakes == "dying")
            self.engines(leaves, fails=False, takes=takes)
            self.world.measure()
            self.world.measure()
        self.finish()

    def _wake_badly(self, *, dies: bool) -> None:
        for name in self._in(Phase.WAKING):
            self.world.exited(name, CRASHED) if dies else self.world.sleep_failed(name)

    @rule(gib=st.sampled_from([4.0, 20.0, 40.0]))
    def ask_for_ram(self, gib: float) -> None:
        self.world.ask(f"ram{gib:g}", {"host": gib}, idle_timeout=30)

    @rule()
    def finish(self) -> None:
        """All requests are answered, and the engines say so."""
        for lease in list(self.world.state.leases):
            self.world.happen(LeaseReleased(at=self.world.now, lease=lease))
        self.world.tick(2)
        for name in self._in(Phase.READY):
            if name in self.world.state.instances:
                self.world.seen(name)

    @rule(leaves=st.sampled_from([0.3, 0.8, 3.0, 30.0]), fails=st.sampled_from([False, False, False, True]))
    def engines(self, leaves: float, fails: bool, takes: float = 1.0) -> None:
        """Each engine does what it was told to, or fails."""
        world = self.world
        for name in self._in(Phase.STARTING):
            world.exited(name, CRASHED) if fails else world.ready(name, more=takes)
        for name in self._in(Phase.STOPPING):
            world.exited(name)
        for name in self._in(Phase.DOZING):
            world.sleep_failed(name) if fails else world.slept(name, leaves)
        for name in self._in(Phase.WAKING):
            world.sleep_failed(name) if fails else world.woke(name)

    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        if names := self._in(Phase.DOZING, Phase.ASLEEP, Phase.WAKING):
            self.world.exited(data.draw(st.sampled_from(sorted(names))), CRASHED)

    @rule(data=st.data())
    def stop(self, data: st.DataObject) -> None:
        if names := self._in(Phase.DOZING, Phase.ASLEEP, Phase.WAKING):
            self.world.stop(data.draw(st.sampled_from(sorted(names))))

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.world.asked:
            self.world.cancel(data.draw(st.sampled_from(self.world.asked)))

    @rule(seconds=st.sampled_from([0.1, 1.0, 6.0, 130.0]))
    def wait(self, seconds: float) -> None:
        self.world.tick(seconds)

    @rule()
    def measure(self) -> None:
        self.world.measure()

    @rule(lost=st.booleans(), device=st.sampled_from(["gpu", "host"]))
    def lose(self, lost: bool, device: str) -> None:
        self.world.devices[device].unavailable = "lost" if lost else None
        self.world.measure()

    @invariant()
    def the_machine_never_runs_out_of_memory(self) -> None:
        for memory in self.world.devices.values():
            assert memory.used() <= memory.capacity - memory.margin

    @invariant()
    def nobody_is_charged_less_than_was_seen(self) -> None:
        for name, device in self.world.devices.items():
            account = self.world.account(name)
            if account.unavailable is None and account.used == device.used():
                for instance, r in account.reservations.items():
                    assert r.exited_at is not None or r.charge >= device.processes.get(instance, 0)

    @invariant()
    def what_dozes_is_charged_in_full_until_its_engine_says_that_it_sleeps(self) -> None:
        for instance in self.world.state.instances.values():
            if instance.phase is Phase.DOZING and instance.slept_at is None:
                charge = self.world.state.ledger.charge(instance.id)
                assert all(charge[device] >= need for device, need in instance.option.demand.items())

    def teardown(self) -> None:
        """Whoever asked has a lease or a refusal with a reason in the end, whatever became of sleep and wakes."""
        for device in self.world.devices.values():
            device.unavailable = None
        for _ in range(ROUNDS):
            if not self.world.state.tickets:
                break
            self.engines(0.8, fails=False)
            self.world.measure()
            self.world.measure()
            self.finish()
            self.world.tick(6)
        assert not self.world.state.tickets
        assert all(self.world.answered[ticket] == 1 for ticket in self.world.asked)


Turns.TestCase.settings = settings(max_examples=examples(150), stateful_step_count=40)
TestTurns = Turns.TestCase
