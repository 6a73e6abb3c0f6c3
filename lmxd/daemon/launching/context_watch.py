"""Watches how much of their context elastic instances use: where a smaller one would do, the core is told of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from lmxd.core.books.state import State
from lmxd.core.events import ContextSeen, Event
from lmxd.core.instances import Instance
from lmxd.core.words import Ask, InstanceId
from lmxd.daemon.launching.doors import door
from lmxd.daemon.launching.launched import Launched
from lmxd.engines.carrier import Carrier, SlotUse
from lmxd.errors import LmxdError

log = logging.getLogger(__name__)

Shrunk: TypeAlias = Callable[[Instance, Sequence[int]], Awaitable[Ask | None]]
"""The ask of a smaller instance that has room for so many tokens in each slot; None if there is none. LmxdError."""


class ContextWatch:
    """Asks an elastic instance for the use of its slots when it has worked since: then it is another.

    ``seen`` hears of it: the instance, its profile, and the use by slot; None in place of that of one at work.
    """

    def __init__(
        self,
        state: State,
        report: Callable[[Event], None],
        shrunk: Shrunk,
        seen: Callable[[InstanceId, str, Sequence[SlotUse | None]], None],
    ) -> None:
        self._state = state
        self._report = report
        self._shrunk = shrunk
        self._seen = seen

    async def look(self, launched: Launched) -> None:
        """Look at an instance, if anything may have changed. Reports ContextSeen once it is idle."""
        instance = self._state.instances.get(launched.instance)
        if launched.looked_at == launched.work or instance is None or not instance.ask.elastic:
            return
        work, used = launched.work, await self._used(launched)
        if used is None or self._state.instances.get(launched.instance) is not instance:
            return
        self._seen(instance.id, instance.ask.profile, used)
        counts = [use.tokens for use in used if use is not None and not use.busy]
        if len(counts) < len(used):
            return  # one is at work: it is looked at when it is done
        launched.looked_at = work
        if launched.plan.carried:
            smaller = await self._smaller(instance, counts)
            self._report(ContextSeen(at=time.monotonic(), instance=instance.id, smaller=smaller))

    async def _used(self, launched: Launched) -> tuple[SlotUse | None, ...] | None:
        if launched.endpoint is None or not isinstance(launched.engine, Carrier) or not (await door(launched)).own:
            return None
        return await launched.engine.used(launched.endpoint)

    async def _smaller(self, instance: Instance, used: Sequence[int]) -> Ask | None:
        try:
            return await self._shrunk(instance, used)
        except LmxdError as error:  # its model's file or its profile is gone
            log.info("%s has no smaller context: %s", instance.id, error)
            return None
