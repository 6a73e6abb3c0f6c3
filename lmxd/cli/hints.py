"""Hints: what a request could have had for less, with other settings of its profile."""

from __future__ import annotations

from collections.abc import Iterable

from lmxd.rpc.books import InstanceInfo


def more_slots(
    instances: Iterable[InstanceInfo], model: str, slots: int = 1, besides: str | None = None, ctx: int | None = None
) -> str | None:
    """The slots with which an instance that runs would serve a request of its model, too; None if there is none such.

    ``besides``: the instance that the request got. ``ctx``: the context that it asks for. An instance of the last step
    of an elastic model has the fewest slots, whatever its profile says. One cache for all lets in none beside others.
    """
    for i in instances:
        if i.unified or i.ctx < (ctx or 0) or i.ctx == i.ctx_most:
            continue
        taken = sum(lease.slots for lease in i.leases)
        if i.model == model and i.ctx and i.instance != besides and i.phase == "ready" and taken + slots > i.slots:
            have = "its 1 slot is taken" if i.slots == 1 else f"{taken} of its {i.slots} slots are taken"
            return f"{i.instance} runs, and {have}; slots: {taken + slots} in its profile would let both in"
    return None
