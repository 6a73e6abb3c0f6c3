"""Standstill: growths of which each keeps the bytes that another waits for.

In: the growths in the queue. Out: refusals. The rule: bytes of all others come free sometime,
but an instance whose lease waits to grow goes on until that has moved. If some growths could not be served even so, the
last of them is refused; its lease stays, and its holder may release it for a new one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from lmxd.core.books.endings import refuse
from lmxd.core.books.state import State
from lmxd.core.holders import Ticket
from lmxd.core.instances import Instance
from lmxd.core.policy import refusals
from lmxd.core.words import DeviceId, InstanceId


def end_standstill(state: State) -> None:
    """Refuse the growths that could never be served, as long as those before them are to be."""
    while left := _stuck(state):
        never = next((t for t in left if not _could_be_served(state, t, _held(state, (t,)))), None)
        if never is not None:
            refuse(state, never, refusals.never_beside(state, never))
        else:
            refuse(state, left[-1], refusals.standstill(state, left[-1], left))
        state.step.serve_again = True


def _stuck(state: State) -> list[Ticket]:
    """The growths that wait for each other, or fit only in place of their own instances; in order of the queue."""
    left = [t for t in state.queue if t.moves is not None] if state.policy.enforce else []
    while served := [t for t in left if _could_be_served(state, t, _held(state, left))]:
        left = [t for t in left if t not in served]
    return left


def _held(state: State, growths: Iterable[Ticket]) -> set[InstanceId]:
    return {state.leases[t.moves].instance for t in growths if t.moves is not None}


def _could_be_served(state: State, ticket: Ticket, held: set[InstanceId]) -> bool:
    """Whether a slot or the bytes for a growth come free if only the ``held`` instances go on."""
    if any(_has_a_slot(i, ticket, held) for i in state.able(ticket.ask)):
        return True
    had: Counter[DeviceId] = Counter()
    for name in held:
        had.update(state.ledger.charge(name))
    beside = ({device: need + had[device] for device, need in o.demand.items()} for o in ticket.ask.options)
    return any(state.ledger.could_ever_fit(both) for both in beside)


def _has_a_slot(instance: Instance, ticket: Ticket, held: set[InstanceId]) -> bool:
    return instance.id not in held or instance.serves(ticket.ask)
