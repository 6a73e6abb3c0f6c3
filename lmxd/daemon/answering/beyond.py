"""The ways out for a request that exceeds every device: a smaller context, or other settings of its model."""

from __future__ import annotations

from dataclasses import dataclass

from lmxd.core.books.state import State
from lmxd.core.policy.refusals import raised
from lmxd.core.words import Ask
from lmxd.daemon.answering import refused
from lmxd.daemon.present import Present


@dataclass(frozen=True, kw_only=True, slots=True)
class WaysOut:
    """The ways out. ``context``: the largest that would fit, if one would; ``settings``: what else would help."""

    remedy: str
    context: int | None
    settings: tuple[str, ...]


def ways_out(ask: Ask, state: State, present: Present) -> WaysOut:
    """The ways out for a request that is refused as ``never_fits``."""
    room = {device: account.ceiling for device, account in state.ledger.accounts.items()}
    context = present.catalog.what_would_fit(ask, room, present.layout)
    keys = present.catalog.helpful_keys(ask, room, present.layout)
    settings = (*raised(state, ask), *(f"have {key} in its profile" for key in keys))
    remedy = ", or ".join((refused.what_to_ask(ask, context), *settings))
    return WaysOut(remedy=remedy, context=context, settings=settings)
