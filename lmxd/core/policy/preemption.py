"""Preemption: bytes are taken back from instances, for a device that is short or for a ticket of a higher class.

In: the devices with a negative headroom, and the head of the queue. Out: ``AskToYield`` and ``StopInstance``. The rule:
idle instances end first, then holds whose processes took more than was promised. Then the holders of others are asked
to release their leases within ``grace``. After that an instance ends as soon as its engine is idle, or at once if
``cut_generations`` says so.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from lmxd.core.books.accounts import Account
from lmxd.core.books.alarms import AlarmKind
from lmxd.core.books.endings import stop
from lmxd.core.books.reach import Reach
from lmxd.core.books.state import State
from lmxd.core.decisions import AskToYield
from lmxd.core.holders import Ticket
from lmxd.core.instances import Instance
from lmxd.core.making_way import Asked
from lmxd.core.policy.eviction import Candidate, Planner, candidate, cheapest, evictable
from lmxd.core.policy.measuring import disturbs, is_measured
from lmxd.core.policy.room import check, make_room
from lmxd.core.words import Cause, InstanceId, Kind, Phase

_PATIENCE: Final = 2.0
"""Seconds for which a device must be short before instances are ended for it. Short peaks of other processes pass."""
YieldReasons: TypeAlias = dict[InstanceId, tuple[Cause, str]]
"""The instances whose holders should yield, with the cause and a sentence."""


def ask_for_room(state: State, head: Ticket | None) -> set[Kind]:
    """Ask holders to yield, tell those that may stay, and end the instances whose grace is over.

    Returns the kinds of the instances that may stay: they accept requests again.
    """
    wanted: YieldReasons = {}
    short = [state.ledger.accounts[device] for device in sorted(state.reach.short)]
    for device in state.overcommitted_since.keys() - {a.device for a in short}:
        state.alarms.clear((AlarmKind.SHORT, device))
        del state.overcommitted_since[device]
    for account in short:
        _relieve_device(state, account, wanted)
    if head is not None and state.policy.preempt and state.policy.enforce and not head.room_being_made:
        _preempt(state, head, wanted)
    kept = [i for i in state.yielding.values() if i.id not in wanted and not (i.vacant and i.checking)]
    for instance in kept:
        _ask(state, instance, None)
    for name, (cause, why) in wanted.items():
        instance = state.instances[name]
        if instance.yielding is None:
            _ask(state, instance, Asked(by=state.now + state.policy.grace, cause=cause, why=why))
        elif instance.yielding.by <= state.now:
            _enforce(state, instance, instance.yielding)
    return {instance.ask.kind for instance in kept}


def _relieve_device(state: State, account: Account, wanted: YieldReasons) -> None:
    since = state.overcommitted_since.setdefault(account.device, state.now)
    if not account.yields and state.now - since < _PATIENCE:
        state.alarms.set((AlarmKind.SHORT, account.device), since + _PATIENCE)
        return
    why = f"{account.name} is kept free for others" if account.yields else f"others use more of {account.name}"
    mine = [state.instances[name] for name in account.reservations]
    charges = [(state.instances[name], r.charge) for name, r in account.reservations.items()]
    coming = sum(i.gives_back(account.device, charge) for i, charge in charges)
    lacking = {account.device: -account.headroom - coming}
    if lacking[account.device] <= 0 or (not account.yields and is_measured(state, lacking)):
        return
    gone = [candidate(state, i) for i in mine if evictable(state, i, pinned=bool(account.yields))]
    leaving = cheapest(gone, lacking)
    held: list[Candidate] = []
    if leaving is None:  # they do not suffice: all of them, and some in use
        leaving = gone
        lacking[account.device] -= sum(c.frees[account.device] for c in gone)
        lacking[account.device] -= _end_excessive(state, account, lacking[account.device], why)
    if leaving is gone and lacking[account.device] > 0:
        held = [_held(state, i) for i in mine if i.live and not i.vacant and not i.ask.pin]
        held = cheapest(held, lacking) or held
    _evict(state, leaving, account, why)
    wanted |= {c.instance.id: (Cause.PRESSURE, why) for c in held}


def _end_excessive(state: State, account: Account, lacking: int, why: str) -> int:
    """End holds that took more than was promised, those of the most excess first, until ``lacking`` bytes are covered.

    Returns the bytes. What their processes go on using is foreign: nobody has others' instances ended by a small hold.
    """
    excess = {name: r.charge - r.promised for name, r in account.reservations.items() if r.charge > r.promised}
    covered = 0
    for name in sorted(excess, key=lambda name: -excess[name]):
        instance = state.instances[name]
        if covered < lacking and instance.ask.external and instance.live:
            covered += account.reservations[name].charge
            stop(state, instance, Cause.PRESSURE, f"{why}, and its process took more than was promised")
    return covered


def _evict(state: State, leaving: list[Candidate], account: Account, why: str) -> None:
    """End each instance by itself: each one helps, even if the others turn out to be busy."""
    for c in leaving:
        if (c.instance.ask.pin and account.yields) and c.instance.known_idle(state.now):
            state.displaced.append(c.instance.ask)
        make_room(state, (c.instance,), Cause.PRESSURE, why)


def _held(state: State, instance: Instance) -> Candidate:
    """An instance in use as a candidate: lower classes first. One that was asked already costs nothing."""
    priorities = [x.priority for x in instance.leases.values()] + [t.ask.priority for t in instance.tickets.values()]
    found = candidate(state, instance, rank=max(priorities, default=0))
    return found if instance.yielding is None else found._replace(cost=0.0)


def _preempt(state: State, head: Ticket, wanted: YieldReasons) -> None:
    """Ask the holders of the cheapest set of lower-class instances that would let the head be served."""
    if not any(priority < head.ask.priority for priority in state.priorities):
        return
    reach = Reach()
    reach.touch(state.ledger.accounts)
    reach.refresh(state.ledger.accounts, state.instances, lambda i: evictable(state, i) or _is_lower(i, head))
    if plan := Planner(state.now).best(state, reach, reach.options(head.ask)):
        why = f"{head.id} ({head.ask.profile}) has a higher priority"
        wanted |= {i.id: (Cause.PREEMPTED, why) for i in plan.leaving if not i.vacant}


def _is_lower(instance: Instance, head: Ticket) -> bool:
    return (
        instance.phase is Phase.READY
        and bool(instance.leases)
        and not instance.ask.pin
        and all(x.priority < head.ask.priority for x in instance.leases.values())
    )


def _ask(state: State, instance: Instance, asked: Asked | None) -> None:
    state.note_yielding(instance, asked)
    if asked is not None:
        state.alarms.set((AlarmKind.GRACE, instance.id), asked.by)
    for lease in instance.leases.values():
        state.step.decisions.append(
            AskToYield(
                lease=lease.id,
                instance=instance.id,
                owner=lease.owner,
                within=None if asked is None else asked.by - state.now,
                why="it may be kept after all" if asked is None else asked.why,
            )
        )


def _enforce(state: State, instance: Instance, asked: Asked) -> None:
    """End an instance whose grace is over. A hold's process is not lmxd's: its holder is only asked."""
    if instance.ask.external or (asked.cause is Cause.PREEMPTED and disturbs(state, instance)):
        return
    if state.policy.cut or instance.known_idle(state.now):
        stop(state, instance, asked.cause, asked.why)
    else:
        check(state, instance)
