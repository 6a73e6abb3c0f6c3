"""Sleep as a cheaper eviction: which instances sleep instead of ending, and how one is woken for a ticket.

In: the idle instances that make way, and the options of a ticket. Out: those that are put to sleep, and options that
wake one. The rule: an instance sleeps if RAM has room for its weights, and what it leaves on its cards is not needed
itself. One that sleeps is woken before another is started, and it is the first that ends for the bytes that it has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from lmxd.core.books.sleeping import more_ram, stays_behind
from lmxd.core.books.state import State
from lmxd.core.instances import Instance
from lmxd.core.words import Ask, DeviceId, InstanceId, Option, Phase


def wakes(state: State, ask: Ask) -> list[Option]:
    """The ways to serve ``ask`` by waking an instance: each takes what the instance lacks. The least comes first."""
    if not state.asleep:
        return []
    return sorted((_wake(state, i) for i in state.asleep.values() if i.is_like(ask)), key=lambda option: option.size)


def _wake(state: State, instance: Instance) -> Option:
    charge = state.ledger.charge(instance.id)
    lacks = {device: max(0, need - charge.get(device, 0)) for device, need in instance.cards.items()}
    return Option(demand=lacks, wakes=instance.id)


def sleepers(state: State, leaving: Collection[Instance], options: Iterable[Option]) -> frozenset[InstanceId]:
    """The instances of ``leaving`` for which it is enough to sleep, so that one of ``options`` fits.

    An instance that is expected to leave the most on its cards is ended first, if they would leave too much.
    """
    able = [i for i in leaving if can_sleep(state, i)]
    able.sort(key=lambda i: sum(stays_behind(state, i).values()))
    ways = list(options)
    while able and not any(_suffices(state, leaving, able, option) for option in ways):
        able.pop()
    return frozenset(i.id for i in able)


def can_sleep(state: State, instance: Instance) -> bool:
    """Whether an instance may be put to sleep: it is idle, RAM has room for its weights, and its cards gain by it.

    The bytes of a card that shares its memory with others would only move.
    """
    accounts, ask = state.ledger.accounts, instance.ask
    if instance.phase is not Phase.READY or not ask.sleeps or not instance.known_idle(state.now):
        return False
    places = [accounts.get(device) for device in (*instance.cards, *ask.sleeps)]
    if not instance.cards or any(each is None or each.unavailable is not None for each in places):
        return False
    if any(accounts[device].pool is not None or state.ledger.views(device) for device in instance.cards):
        return False
    stays = stays_behind(state, instance)
    gains = all(2 * stays[device] <= size for device, size in instance.cards.items())
    return gains and state.ledger.fits(more_ram(state, instance))


def _suffices(state: State, leaving: Collection[Instance], asleep: Collection[Instance], option: Option) -> bool:
    """Whether an option fits if ``asleep`` sleep, and the others of ``leaving`` end."""
    freed: Counter[DeviceId] = Counter()
    ram: Counter[DeviceId] = Counter()
    for instance in leaving:
        freed.update(_frees(state, instance, asleep=instance in asleep))
    for instance in asleep:
        ram.update(more_ram(state, instance))
    has_room = all(state.ledger.accounts[device].free >= size for device, size in ram.items())
    return has_room and all(state.reach.sure(d) + freed[d] - ram[d] >= need for d, need in option.demand.items())


def _frees(state: State, instance: Instance, *, asleep: bool) -> dict[DeviceId, int]:
    charge = state.ledger.charge(instance.id)
    return {d: charge[d] - size for d, size in stays_behind(state, instance).items()} if asleep else charge
