"""Sleep: how an idle instance falls asleep, sleeps and wakes. Facts and policy use the same.

RAM for its weights is promised before its engine is told to sleep. On its cards it is charged as before, until readings
show fewer bytes: these stay charged. To wake it is promised again what it had. RAM that it does not give back when it
is awake stays charged as well, for readings alone lower a promise.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from lmxd.core.books.accounts import RECLAIM_DEADLINE
from lmxd.core.books.alarms import AlarmKind
from lmxd.core.books.endings import stop
from lmxd.core.books.queueing import wait_again
from lmxd.core.books.state import State
from lmxd.core.decisions import SleepInstance, WakeInstance
from lmxd.core.events import InstanceSlept, SleepFailed
from lmxd.core.instances import Instance
from lmxd.core.words import Cause, DeviceId, Phase

SLEEPLESS: Final = 2**62
"""Bytes that stay in use of a launch that cannot sleep: more than any card has."""
_RESIDUE: Final = 2**30
_PART: Final = 4
"""Bytes that stay on each card until a sleeping launch was seen, but at most this part of what it has there. vLLM
leaves 774 MiB of a model on one card, and 1.14 GB a card of one on four."""


def ram(state: State, instance: Instance) -> dict[DeviceId, int]:
    """The bytes of RAM that an instance is promised asleep: its weights, and what its processes have there awake.

    Weights that it did not give back when it last woke are used again.
    """
    option, had = instance.option, _ram_in_use(state, instance)
    weights = instance.ask.sleeps
    return {d: option.demand[d] if d in option.rests else had[d] + need for d, need in weights.items()}


def more_ram(state: State, instance: Instance) -> dict[DeviceId, int]:
    """The bytes of RAM that falling asleep would take beyond what is in use or promised."""
    had = _ram_in_use(state, instance)
    return {device: max(0, size - had[device]) for device, size in ram(state, instance).items()}


def _ram_in_use(state: State, instance: Instance) -> dict[DeviceId, int]:
    charge, accounts = state.ledger.charge(instance.id), state.ledger.accounts
    return {device: charge.get(device, 0) or accounts[device].had(instance.id) for device in instance.ask.sleeps}


def stays_behind(state: State, instance: Instance) -> dict[DeviceId, int]:
    """The bytes of each card that an instance is expected to go on taking asleep."""
    charge, known = state.ledger.charge(instance.id), state.residues.get(instance.ask.profile)
    cards = {device: charge.get(device, 0) for device in instance.cards}
    return {d: min(size, min(_RESIDUE, size // _PART) if known is None else known) for d, size in cards.items()}


def fall_asleep(state: State, instance: Instance, why: str) -> None:
    """Promise an idle instance the RAM for its weights, and have its engine told to sleep."""
    wanted, before = ram(state, instance), state.ledger.charge(instance.id)
    instance.stays_behind = stays_behind(state, instance)
    state.reach.commit(more_ram(state, instance))
    accounts = state.ledger.accounts
    pools = tuple(device for device in wanted if any(accounts[each].pool == device for each in wanted))
    rests = instance.option.rests or instance.ask.sleeps
    instance.option = replace(instance.option, demand={**before, **wanted}, rests=rests, pools=pools)
    state.ledger.reserve(instance.id, wanted)
    instance.phase, instance.stopped_at = Phase.DOZING, state.now
    instance.slept_at = instance.left = None
    state.retire(instance)
    state.reach.touch(instance.demand)
    state.counts["slept"] += 1
    state.step.decisions.append(SleepInstance(instance=instance.id, why=why))


def sleep_reported(state: State, event: InstanceSlept | SleepFailed) -> None:
    """An engine says that it sleeps: readings from now on show what that frees. Or it did not as it was told.

    Then it is ended, and those who wait for it to wake are served otherwise.
    """
    instance = state.instances.get(event.instance)
    if instance is None:
        return
    if isinstance(event, SleepFailed) and instance.phase in (Phase.DOZING, Phase.WAKING):
        never_again(state, instance)
        stop(state, instance, Cause.SLEEPLESS, event.failure.message)
    elif isinstance(event, InstanceSlept) and instance.phase is Phase.DOZING and instance.slept_at is None:
        instance.slept_at = state.now
        state.ledger.lower(instance.id, dict.fromkeys(instance.cards, 0), state.now)
        state.alarms.set((AlarmKind.SLEEP, instance.id), state.now + RECLAIM_DEADLINE)
        state.step.touched.instances.add(instance.id)


def settle(state: State, begun: float) -> None:
    """Look which instances have freed all that they will, as a reading begun at ``begun`` shows what it did before."""
    dozing = [i for i in state.leaving.values() if i.phase is Phase.DOZING and i.slept_at is not None]
    for instance in [i for i in dozing if i.slept_at is not None and begun > i.slept_at]:
        charge, cards = state.ledger.charge(instance.id), instance.cards
        left = sum(charge.get(device, 0) for device in cards)
        state.reach.touch(instance.demand)
        if left == instance.left and left < sum(cards.values()):
            settled(state, instance)
        instance.left = left


def settled(state: State, instance: Instance) -> None:
    """An instance sleeps, and has freed all that it will. One that keeps half of a card or more is ended."""
    charge, cards = state.ledger.charge(instance.id), instance.cards
    left = {device: charge.get(device, 0) for device in cards}
    state.step.serve_again = True
    state.reach.touch(instance.demand)
    if any(2 * size > cards[device] for device, size in left.items()):
        state.residues[instance.ask.profile] = SLEEPLESS
        stop(
            state,
            instance,
            Cause.SLEEPLESS,
            "its engine says that it sleeps, but no reading shows that this frees much",
        )
        return
    state.residues[instance.ask.profile] = max(left.values(), default=0)
    instance.phase = Phase.ASLEEP
    lie_down(state, instance)


def lie_down(state: State, instance: Instance) -> None:
    """Enter a sleeping instance into the books of those: now, or as an earlier daemon left it."""
    state.retire(instance)
    del state.leaving[instance.id]
    state.asleep[instance.id] = instance
    instance.slept_at = state.now if instance.slept_at is None else instance.slept_at
    instance.stopped_at = None  # it is not on its way out: how long that takes is learned from those that are
    state.ledger.lower(instance.id, dict.fromkeys(instance.cards, 0), instance.slept_at)
    state.alarms.set((AlarmKind.SLEEP, instance.id), state.now + instance.stays)


def overslept(state: State, instance: Instance) -> None:
    """The time is over for an instance that falls asleep, or is asleep."""
    if instance.phase is Phase.DOZING:
        settled(state, instance)
    elif not instance.ask.pin:
        stop(state, instance, Cause.IDLE, f"nobody has woken it for {instance.stays:.0f} s")


def wake(state: State, instance: Instance, why: str) -> None:
    """Promise a sleeping instance the bytes that it had, and have its engine told to wake."""
    state.reach.keep(instance, state.ledger.charge(instance.id))
    del state.asleep[instance.id]
    state.alarms.clear((AlarmKind.SLEEP, instance.id))
    state.ledger.reserve(instance.id, instance.cards)
    instance.phase, instance.ready_at, instance.slept_at = Phase.WAKING, None, None
    instance.load_at = instance.active_at = instance.vacant_since = state.now
    instance.busy, instance.checking, instance.checked_at = False, False, None
    state.enliven(instance)
    state.step.touched.instances.add(instance.id)
    state.counts["woken"] += 1
    state.step.decisions.append(WakeInstance(instance=instance.id, profile=instance.ask.profile, why=why))


def awake(state: State, instance: Instance, seconds: float | None) -> None:
    """An instance is awake again, after ``seconds``. Readings show what RAM it has given back."""
    begun = state.now if instance.load_at is None else instance.load_at
    state.expectations.woke(instance.ask.profile, state.now - begun if seconds is None else seconds)
    least = {device: instance.demand[device] - size for device, size in instance.option.rests.items()}
    state.ledger.lower(instance.id, least, state.now)


def never_again(state: State, instance: Instance) -> None:
    """Put no instance of its launch to sleep from now on, and have those who wait for it to wake wait for another."""
    state.residues[instance.ask.profile] = SLEEPLESS
    for ticket in list(instance.tickets.values()):
        wait_again(state, ticket)
