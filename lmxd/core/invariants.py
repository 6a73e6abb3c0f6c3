"""Invariants that hold after every event. Tests check them after each step, and ``lmxctl status`` on demand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lmxd.core.books.alarms import AlarmKind, Key
from lmxd.core.books.quotas import over_quota
from lmxd.core.books.shares import Share
from lmxd.core.books.state import State
from lmxd.core.holders import Lease
from lmxd.core.instances import Instance
from lmxd.core.words import InstanceId, Kind, LeaseId, Phase


def broken(state: State) -> list[str]:
    """One sentence for each invariant that does not hold. It changes nothing."""
    checks = (
        _promises,
        _sums,
        _pools,
        _indexes,
        _reservations,
        _wakeful,
        _leases,
        _moving,
        _queue,
        _idleness,
        _shares,
        _alarms,
    )
    return [sentence for check in checks for sentence in check(state)]


def _promises(state: State) -> Iterator[str]:
    if not state.policy.enforce:
        return
    for account in state.ledger.accounts.values():
        most = max(account.ceiling, account.bound)
        if account.capacity and account.promised > most:
            yield f"{account.device}: {account.promised} bytes are promised of {most}"


def _sums(state: State) -> Iterator[str]:
    for account in state.ledger.accounts.values():
        if not account.balanced:
            yield f"{account.device}: its sums are not those of its reservations"


def _pools(state: State) -> Iterator[str]:
    """No byte of a pool is promised twice: what the devices that share it promise and charge is charged to it."""
    accounts = state.ledger.accounts if state.policy.enforce else {}
    for pool in {a.pool for a in accounts.values() if a.pool is not None and a.pool in accounts}:
        promised: Counter[InstanceId] = Counter()
        charged: Counter[InstanceId] = Counter()
        for view in state.ledger.views(pool):
            living = {name: r for name, r in view.reservations.items() if r.exited_at is None}
            promised.update({name: r.promised for name, r in living.items()})
            charged.update({name: r.charge for name, r in living.items()})
        for name, size in promised.items():
            had = accounts[pool].reservations.get(name)
            if had is None or had.promised < size or had.charge < charged[name]:
                yield f"{name} has {max(size, charged[name])} bytes on devices that share {pool}, and {had} of it"


def _indexes(state: State) -> Iterator[str]:
    """Each index equals one that is rebuilt from the instances, leases and tickets."""
    live = [i for i in state.instances.values() if i.live]
    opened = [i for i in live if i.accepts and not i.ask.external and i.free_slots > 0]
    unused = [i for i in live if i.vacant]
    indexes: Iterable[tuple[str, Mapping[Any, Any], Mapping[Any, Any]]] = (
        ("live_by_kind", state.live_by_kind, _by_kind(live)),
        ("with_free_slots", state.with_free_slots, _by_kind(opened)),
        ("measuring", state.measuring, _by_id(i for i in live if i.phase is Phase.STARTING and i.ask.measures)),
        ("vacant", state.vacant, _by_id(unused)),
        (
            "lingering",
            state.lingering,
            {n: i for n, i in state.lingering.items() if i.vacant and i.live and i.last_use},
        ),
        ("released_holds", state.released_holds, _by_id(i for i in unused if i.ask.external)),
        ("leaving", state.leaving, _by_id(i for i in state.instances.values() if i.ends or i.phase is Phase.DOZING)),
        ("asleep", state.asleep, _by_id(i for i in state.instances.values() if i.phase is Phase.ASLEEP)),
        ("swapping", state.swapping, _by_id(i for i in live if i.swap is not None)),
        ("yielding", state.yielding, _by_id(i for i in live if i.yielding is not None)),
        ("leases", state.leases, _seated(state) | {name: x for name, x in state.leases.items() if x.parked}),
        ("keys", state.keys, {(x.owner.uid, x.key): x for x in state.leases.values() if x.key is not None}),
        ("asked", state.asked, {(t.owner.uid, t.key): t for t in state.tickets.values() if t.key is not None}),
        ("priorities", state.priorities, dict(Counter(x.priority for x in state.leases.values()))),
        ("impatient", state.impatient, {t.id: t for t in state.tickets.values() if not t.patient}),
    )
    for name, is_so, anew in indexes:
        if is_so != anew:
            yield f"the index {name!r} is of {_names(is_so)}, and built anew of {_names(anew)}"
    yield from state.queue.broken()
    for uid, key in state.asked.keys() & state.keys.keys():
        yield f"the key {key!r} of uid {uid} has a lease, and a request waits under it"


def _seated(state: State) -> dict[LeaseId, Lease]:
    return {name: x for i in state.instances.values() for name, x in i.leases.items()}


def _names(index: Mapping[Any, Any]) -> list[str]:
    return sorted(f"{key}: {', '.join(x)}" if isinstance(x, dict) else str(key) for key, x in index.items())


def _by_id(instances: Iterable[Instance]) -> dict[InstanceId, Instance]:
    return {i.id: i for i in instances}


def _by_kind(instances: Iterable[Instance]) -> dict[Kind, dict[InstanceId, Instance]]:
    found: dict[Kind, dict[InstanceId, Instance]] = {}
    for i in instances:
        found.setdefault(i.ask.kind, {})[i.id] = i
    return found


def _reservations(state: State) -> Iterator[str]:
    reserved = {i for a in state.ledger.accounts.values() for i in a.reservations}
    for orphan in reserved - state.instances.keys():
        yield f"{orphan} has a reservation but is not an instance"
    for instance in state.instances.values():
        held = {a.device for a in state.ledger.of(instance.id)}
        if instance.phase is not Phase.RECLAIMING and held != set(instance.demand):
            yield f"{instance.id} is {instance.phase} without its reservations"
        if instance.phase is Phase.RECLAIMING and not held:
            yield f"{instance.id} is reclaiming nothing"


def _wakeful(state: State) -> Iterator[str]:
    """An instance that may take all its bytes is promised all of them: only readings of one that sleeps lower that."""
    for instance in state.instances.values():
        fell_asleep = instance.phase is Phase.ASLEEP or instance.slept_at is not None
        if instance.ends or fell_asleep:
            continue
        for account in state.ledger.of(instance.id):
            need = 0 if account.device in instance.option.pools else instance.cards.get(account.device, 0)
            if (had := account.reservations[instance.id].promised) < need:
                yield f"{instance.id} is {instance.phase}, and promised {had} of {need} bytes on {account.device}"


def _leases(state: State) -> Iterator[str]:
    for instance in state.instances.values():
        if instance.leases and instance.phase is not Phase.READY:
            yield f"{instance.id} carries leases but is {instance.phase}"
        for ticket in instance.tickets.values():
            if not (instance.phase is Phase.READY if ticket.carrying else instance.comes_up):
                on_its_way = " whose conversation is on its way" if ticket.carrying else ""
                yield f"{instance.id} has {ticket.id}{on_its_way}, but is {instance.phase}"
        if instance.free_slots < 0:
            yield f"{instance.id} carries more than its {instance.ask.spread} slots"
        owners = [x.owner for x in instance.leases.values()] + [t.owner for t in instance.tickets.values()]
        if instance.ask.private_to is not None and any(
            instance.ask.private_to not in (owner.who, (owner.uid, "")) for owner in owners
        ):
            yield f"{instance.id} serves others than {instance.ask.private_to}, to whom it is private"
        if len(instance.leases) + len(instance.tickets) > 1 and not instance.shared:
            yield f"{instance.id} is shared though it must not be"


def _moving(state: State) -> Iterator[str]:
    """A lease that grows and its ticket name each other, and no instance that a lease has left for good has leases."""
    wanted = {t.moves: t.id for t in state.tickets.values() if t.moves is not None}
    if wanted != (grow := {x.id: x.growing for x in state.leases.values() if x.growing is not None}):
        yield f"the tickets of growths are {wanted}, and the leases that grow {grow}"
    if len(wanted) != sum(t.moves is not None for t in state.tickets.values()):
        yield "a lease has two tickets to grow"
    for instance in state.instances.values():
        if instance.outgrown and instance.leases:
            yield f"{instance.id} is outgrown, and has leases"
    seated = _seated(state)
    for lease in state.leases.values():
        ticket = None if lease.growing is None else state.tickets.get(lease.growing)
        if lease.parked is not None and (lease.id in seated or ticket is None or not ticket.parked):
            yield f"{lease.id} is parked, and has an instance, or no ticket that stands first"
        if lease.parked is not None and (old := state.instances.get(lease.instance)) is not None and not old.ends:
            yield f"{lease.id} is parked, and {old.id}, which it left, is {old.phase}"
        if ticket is not None and ticket.parked and lease.parked is None:
            yield f"{ticket.id} stands first, and {lease.id} is not parked"
        if ticket is not None and lease.parked is not None and ticket.carries != lease.parked.carries:
            yield f"{lease.id} is parked, and what goes along with it does not go along with {ticket.id}"
    files = Counter(x.file for lease in state.leases.values() if lease.parked for x in lease.parked.carries)
    if several := sorted(file for file, count in files.items() if count > 1):
        yield f"the conversations {several} go along with two leases each"
    for instance in state.instances.values():
        if not {carry.slot for carry in instance.carries} <= instance.saved <= set(range(instance.ask.spread)):
            yield f"{instance.id} has the files of {instance.carries}, and {sorted(instance.saved)} were saved"


def _queue(state: State) -> Iterator[str]:
    classes = Counter((t.ask.priority, t.owner.who) for t in state.queue if not t.outside_depth)
    for (priority, who), waiting in classes.items():
        if waiting > state.policy.queue_depth:
            yield f"{waiting} tickets of class {priority} and {who} wait in a queue of {state.policy.queue_depth}"
    both = {t.id for t in state.queue} | {t for i in state.instances.values() for t in i.tickets}
    if both != state.tickets.keys() or any((t in state.queue) != (t.instance is None) for t in state.tickets.values()):
        yield "the tickets and those that wait or start are not the same"


def _idleness(state: State) -> Iterator[str]:
    """No instance with a free slot is passed over by a ticket that it could serve.

    One that keeps apart from an instance passes it over while room is being made for another.
    A closed instance is closed for a ticket that waits, and is stopped as soon as it is idle, and what it has is saved.
    """
    for ticket in state.queue:
        if over_quota(state, ticket):
            continue
        for instance in state.live_by_kind.get(ticket.ask.kind, {}).values():
            shared = instance.id not in ticket.apart or not ticket.room_being_made
            if shared and instance.serves(ticket.ask) and instance.is_handed_over(ticket.owner.uid, state.now):
                yield f"{instance.id} is {instance.phase} and has a free slot, and {ticket.id} waits"
    for instance in state.instances.values():
        if not instance.closed:
            continue
        if instance.swap is None or state.waiting(instance.swap.ticket) is None:
            yield f"{instance.id} is closed, but for nobody who waits"
        if instance.vacant and instance.known_idle(state.now) and not (instance.ask.pin or instance.saving):
            yield f"{instance.id} is closed and done, and was not told to go"


def _shares(state: State) -> Iterator[str]:
    asks = [(t.owner, t.ask.portion if t.instance is not None else None) for t in state.tickets.values()]
    all_had = [(x.owner, x.size) for x in state.leases.values()] + asks
    all_had += [(i.last_use.owner, i.last_use.size) for i in state.lingering.values() if i.last_use is not None]
    for uid in state.shares.by_uid.keys() | {owner.uid for owner, _ in all_had}:
        share = state.shares.by_uid.get(uid, Share())
        yield from _share(f"uid {uid}", share, [size for owner, size in all_had if owner.uid == uid])
    for gid in state.shares.by_gid.keys() | {gid for owner, _ in all_had for gid in owner.gids}:
        share = state.shares.by_gid.get(gid, Share())
        yield from _share(f"group {gid}", share, [size for owner, size in all_had if gid in owner.gids])
    for user in {owner.who for owner, _ in all_had} - state.shares.by_user.keys():
        yield f"{user} has something, and no share"
    for user, use in state.shares.by_user.items():
        had = [size for owner, size in all_had if owner.who == user]
        yield from _share(f"user {user}", use, had)


def _share(who: str, share: Share, had: list[int | None]) -> Iterator[str]:
    """``had``: the size of each lease, None for each request that waits."""
    held = [size for size in had if size is not None]
    if (share.bytes, share.leases, share.waiting) != (sum(held), len(held), len(had) - len(held)):
        yield f"{who} is held to have {share}, but has {had}"


def _alarms(state: State) -> Iterator[str]:
    """A lease, a yield, a deadline or a wait that ends at a time has an alarm."""
    ends: set[Key] = {(AlarmKind.LEASE, x.id) for x in state.leases.values() if x.expires_at is not None}
    ends |= {(AlarmKind.YIELD, id) for account in state.ledger.accounts.values() for id in account.yields}
    ends |= {(AlarmKind.DEADLINE, t.id) for t in state.tickets.values() if t.deadline_at is not None}
    ends |= {(AlarmKind.WAIT, t.id) for t in state.queue if t.wait}
    ends |= {(AlarmKind.CARRY, t.id) for t in state.tickets.values() if t.carrying}
    ends |= {(AlarmKind.SLEEP, i.id) for i in state.asleep.values() if not i.ask.pin}
    for key in sorted(ends):
        if key not in state.alarms:
            yield f"{key[1]} has no alarm for its {key[0]}"
