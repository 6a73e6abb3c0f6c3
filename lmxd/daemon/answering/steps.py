"""The steps of elastic models: what an instance of each would be charged."""

from __future__ import annotations

from dataclasses import replace

from lmxd.catalog.resolved import Resolved
from lmxd.catalog.size import Size
from lmxd.core.words import Ask, User
from lmxd.daemon.answering.asks import Asks
from lmxd.errors import LmxdError
from lmxd.rpc.books import GrowthInfo, StepInfo


def charges(ask: Ask) -> dict[str, int]:
    """The bytes of an instance by device, where one device has all of it."""
    return {device: n for o in ask.options if not o.spills and not o.split for device, n in o.devices.items()}


async def growth(asks: Asks, resolved: Resolved, steps: tuple[int, ...], user: User) -> GrowthInfo | None:
    """The steps of a model as a user's lease would grow by them; None if its context is fixed. LmxdError ``too_many``.

    A step that cannot be has its problem.
    """
    if not steps:
        return None
    sizes = [replace(resolved.size, ctx=step) for step in steps]
    return GrowthInfo(
        steps=[await _step(asks, resolved.name, size, user) for size in sizes],
        not_carried=resolved.not_carried,
    )


async def _step(asks: Asks, model: str, size: Size, user: User) -> StepInfo:
    resolved = await asks.read(model, size, user)
    found = StepInfo(ctx=resolved.launch.context, slots=resolved.launch.slots)
    try:
        return found.model_copy(update={"bytes": charges(asks.ask(resolved))})
    except LmxdError as error:
        return found.model_copy(update={"problem": str(error)})
