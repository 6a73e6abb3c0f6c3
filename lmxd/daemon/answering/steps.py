"""The steps of elastic models: what an instance of each would be charged."""

from __future__ import annotations

from dataclasses import replace

from lmxd.catalog.catalog import Catalog
from lmxd.catalog.resolved import Resolved
from lmxd.core.words import Ask, User
from lmxd.daemon.answering.asks import Asks
from lmxd.errors import LmxdError
from lmxd.rpc.books import GrowthInfo, StepInfo


def charges(ask: Ask) -> dict[str, int]:
    """The bytes of an instance by device, where one device has all of it."""
    return {device: n for o in ask.options if not o.spills and not o.split for device, n in o.devices.items()}


async def growth(asks: Asks, resolved: Resolved, catalog: Catalog, user: User) -> GrowthInfo | None:
    """The steps of a model as a user's lease would grow by them; None if its context is fixed. LmxdError ``too_many``.

    A step that cannot be has its problem. Of one cache for all slots there is each size.
    """
    if not (steps := catalog.steps(resolved.name)):
        return None
    if sizes := catalog.sizes(resolved.name):
        least = replace(resolved.size, ctx=None, slots=None, bounded=True)
        wholes = [await asks.read(resolved.name, replace(least, beside=slots - 1), user) for slots in sizes]
        return GrowthInfo(steps=[_step(asks, one) for one in wholes], share=steps[0])
    each = [await asks.read(resolved.name, replace(resolved.size, ctx=step), user) for step in steps]
    return GrowthInfo(
        steps=[_step(asks, one) for one in each],
        not_carried=resolved.not_carried,
        swa_full_bytes=max((more for one in each if (more := _widening(asks, one)) is not None), default=None),
    )


def _step(asks: Asks, resolved: Resolved) -> StepInfo:
    found = StepInfo(ctx=resolved.launch.context, slots=resolved.launch.slots)
    try:
        return found.model_copy(update={"bytes": charges(asks.ask(resolved))})
    except LmxdError as error:
        return found.model_copy(update={"problem": str(error)})


def _widening(asks: Asks, resolved: Resolved) -> int | None:
    """The bytes that an instance would take more for conversations that are carried; None where that is not so."""
    if (wide := resolved.widened) is None:
        return None
    try:
        usual, wider = charges(asks.ask(resolved)), charges(asks.ask(wide))
    except LmxdError:
        return None  # there can be no instance of this step
    return max((n - usual[device] for device, n in wider.items() if device in usual), default=None)
