"""Starts: reserve the bytes, start an instance, and grant its tickets leases when it is ready."""

from __future__ import annotations

from lmxd.core.books.sleeping import wake
from lmxd.core.books.state import State
from lmxd.core.decisions import GrantLease, ReportProgress, StartInstance
from lmxd.core.holders import Lease, Ticket
from lmxd.core.instances import Instance
from lmxd.core.moves import Carry
from lmxd.core.policy.eviction import THRASH_WINDOW
from lmxd.core.policy.forecast import starting
from lmxd.core.policy.growing import carry
from lmxd.core.words import Ask, Option, Phase


def start(state: State, ask: Ask, option: Option, why: str, carries: tuple[Carry, ...] = ()) -> Instance:
    """Reserve the bytes, and order the launch; or the wake, if that is what the option is.

    ``carries``: conversations that it is to have from the start.
    """
    if option.wakes is not None:
        sleeper = state.asleep[option.wakes]
        wake(state, sleeper, why)
        return sleeper
    _note_thrash(state, ask)
    instance = Instance(
        id=state.new_instance_id(ask.profile),
        ask=ask,
        option=option,
        phase=Phase.STARTING,
        started_at=state.now,
        active_at=state.now,
        vacant_since=state.now,
    )
    state.add_instance(instance)
    state.step.decisions.append(StartInstance(instance=instance.id, ask=ask, option=option, why=why, carries=carries))
    return instance


def _note_thrash(state: State, ask: Ask) -> None:
    """Count a kind that is started again soon after its eviction. The quantum bounds what that costs."""
    if state.now - state.evicted_at.get(ask.kind, -THRASH_WINDOW) < THRASH_WINDOW:
        state.counts["thrash"] += 1


def attach(state: State, ticket: Ticket, instance: Instance, why: str) -> None:
    """Give a ticket to an instance: its lease is granted at once if the instance is ready, else when it is."""
    ticket.why = why
    if instance.phase is Phase.READY:
        grant(state, instance, ticket)
        return
    state.attach(ticket, instance)
    eta = starting(state, ticket)
    state.step.decisions.append(
        ReportProgress(ticket=ticket.id, owner=ticket.owner, position=0, eta=eta, instance=instance.id)
    )


def grant(state: State, instance: Instance, ticket: Ticket) -> None:
    """Make a lease of a ticket; the lease that grows by it moves."""
    if ticket.moves is not None:
        carry(state, instance, ticket)
        return
    state.drop_ticket(ticket)
    ticket.instance = instance.id
    lease = Lease(
        id=ticket.lease,
        instance=instance.id,
        owner=ticket.owner,
        hold=ticket.hold,
        slots=ticket.ask.slots,
        size=ticket.ask.portion,
        priority=ticket.ask.priority,
        granted_at=state.now,
        ttl=ticket.ttl,
        key=ticket.key,
        digest=ticket.digest,
        share=ticket.ask.share,
    )
    state.add_lease(lease)
    state.expire(lease, None if ticket.ttl is None else state.now + ticket.ttl)
    instance.active_at = instance.used_at = state.now
    instance.keep_alive, instance.outgrown = None, False
    state.step.touched.instances.add(instance.id)
    state.step.decisions.append(
        GrantLease(
            ticket=ticket.id,
            lease=ticket.lease,
            instance=instance.id,
            profile=ticket.ask.profile,
            owner=ticket.owner,
            waited=state.now - ticket.asked_at,
            why=ticket.why,
        )
    )
