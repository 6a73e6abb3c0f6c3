"""The limit of instances: how many of a model may run for a request (``max_instances``).

In: the state and a ticket. Out: whether all run that may, and which of them are too small for it. The rule: an instance
that others hold to the last slot does not count, or one of them could keep all of a user's requests waiting.
"""

from __future__ import annotations

from lmxd.core.books.state import State
from lmxd.core.holders import Ticket
from lmxd.core.instances import Instance
from lmxd.core.words import Ask, Owner


def has_all_instances(state: State, ticket: Ticket) -> bool:
    """Whether as many instances of its model run as its ``max_instances`` allows, whatever their size.

    One that its holder does not share does not count, nor one that cannot make way for a larger, nor one whose slots
    are all taken by other uids, nor one whose one cache another process has alone. A growth has such a limit only if it
    says one, and none once its lease is parked: then it has nowhere else to go. Nor has a request that keeps apart from
    conversations, as long as there is room. Of those with one cache for all slots, a smaller one does not count: its
    place is taken.
    """
    ask = ticket.ask
    if ask.max_instances is None or ticket.parked or (ticket.apart and not ask.unified):
        return False
    fitting = (i for i in state.able(ask) if not ask.unified or i.ask.spread >= ask.spread)
    within_reach = (i for i in fitting if i.free_slots > 0 or _may_have_slots(i, ticket.owner))
    able = sum(i.ask.share or not ask.share for i in within_reach)
    return able + len(replaceable(state, ask)) >= ask.max_instances


def _may_have_slots(instance: Instance, owner: Owner) -> bool:
    """Whether its user has a slot of it, or will: then it is theirs to wait for.

    A cache that slots share is not, if another of their processes has all of it, as a holder has that may use as much.
    """
    holders = [(x.owner, x.slots) for x in instance.leases.values()]
    holders += [(t.owner, t.ask.slots) for t in instance.tickets.values()]
    whole = (who.pid for who, slots in holders if instance.ask.unified and slots == instance.ask.spread)
    return any(who.uid == owner.uid for who, _ in holders) and next(whole, owner.pid) == owner.pid


def replaceable(state: State, ask: Ask) -> list[Instance]:
    """The live instances of the same model that cannot serve ``ask``, as too small: they may make way for it.

    An elastic one is as small as its leases need it: it makes way for none.
    """
    found: list[Instance] = []
    for kind, kin in state.live_by_kind.items():
        resident = state.residents.get(kind)
        if kind[0] == ask.profile and (resident is None or not resident.keep):
            fixed = (i for i in kin.values() if i.ask.share and not (i.ask.pin or i.ask.elastic))
            found += [i for i in fixed if i.makes_way_for_larger(ask)]
    return found
