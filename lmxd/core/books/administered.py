"""Facts that an administrator brings about: stops, pins, drains; and how long a client wants an instance to stay."""

from __future__ import annotations

from dataclasses import replace

from lmxd.core.books.alarms import AlarmKind
from lmxd.core.books.endings import refuse, stop
from lmxd.core.books.state import State
from lmxd.core.final_refusals import DRAINING
from lmxd.core.orders import DrainEnded, DrainRequested, KeepAliveChanged, PinChanged, ResidentsChanged, StopRequested
from lmxd.core.words import Cause


def administered(state: State, event: StopRequested | PinChanged | KeepAliveChanged) -> None:
    instance = state.instances.get(event.instance)
    if instance is None:
        return
    if isinstance(event, StopRequested):
        stop(state, instance, Cause.ADMIN, "an administrator stopped it")
    elif isinstance(event, KeepAliveChanged):
        instance.keep_alive = event.seconds
        if instance.id in state.asleep and instance.slept_at is not None:
            state.alarms.set((AlarmKind.SLEEP, instance.id), instance.slept_at + instance.stays)
    else:
        instance.ask = replace(instance.ask, pin=event.pin)
        if instance.id in state.asleep:
            state.alarms.set((AlarmKind.SLEEP, instance.id), state.now + instance.stays)
        state.reach.touch(instance.demand)
        state.step.touched.instances.add(instance.id)


def residents_changed(state: State, event: ResidentsChanged) -> None:
    """Take over the list of residents, which decides who is kept."""
    state.residents = {s.ask.kind: s for s in event.residents}
    state.reach.touch(state.ledger.accounts)


def drain_changed(state: State, event: DrainRequested | DrainEnded) -> None:
    state.draining = isinstance(event, DrainRequested)
    if isinstance(event, DrainEnded):
        return
    for ticket in list(state.queue):
        refuse(state, ticket, DRAINING)
    if not event.now:
        return
    for instance in list(state.instances.values()):
        stop(state, instance, Cause.DRAIN, "an administrator drains lmxd")
