"""Measuring: an engine that finds out by itself, while it loads, what is free on its devices. It dies, or takes too
much, if bytes come free there meanwhile.

In: the instances that load so. Out: who is not ended for now. The rule: none of ours on the same device, for idleness
or for others' sake, until the load is over, or has taken as long as a load may. Who administrates lmxd is not held up.
"""

from __future__ import annotations

from collections.abc import Iterator

from lmxd.core.books.state import State
from lmxd.core.instances import Instance
from lmxd.core.words import Demand


def disturbs(state: State, instance: Instance) -> bool:
    """Whether the end of an instance would free bytes under an engine that measures."""
    return any(m is not instance for m in _measuring(state, instance.demand))


def is_measured(state: State, demand: Demand) -> bool:
    """Whether an engine measures one of these devices."""
    return any(True for _ in _measuring(state, demand))


def undisturbed_from(state: State, instance: Instance) -> float:
    """The time from which nobody is expected to be disturbed by the end of an instance."""
    loads = state.expectations.launch
    return max(
        (
            min(_ends(m), m.loaded_at(loads(m.ask.profile, m.option.size), state.now))
            for m in _measuring(state, instance.demand)
            if m is not instance
        ),
        default=state.now,
    )


def _measuring(state: State, demand: Demand) -> Iterator[Instance]:
    for m in state.measuring.values():
        if not (m.postponed or m.demand.keys().isdisjoint(demand)) and state.now < _ends(m):
            yield m


def _ends(measuring: Instance) -> float:
    """The latest time for which it is left undisturbed."""
    return (measuring.started_at if measuring.load_at is None else measuring.load_at) + measuring.ask.measures
