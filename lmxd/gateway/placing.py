"""The slot of an instance that a request is sent to: the one that has seen most of its prompt."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

from lmxd.gateway.growing import RequestGrowth
from lmxd.gateway.http.upstream_call import UpstreamCall
from lmxd.gateway.leasing.leases import Leases
from lmxd.gateway.requests.prompts import takes_slot
from lmxd.gateway.traced import TracedPrompt
from lmxd.rpc.client import AsyncLease


class Placing:
    """Places requests in slots."""

    def __init__(self, leases: Leases) -> None:
        self._slots = leases.slots
        self._shelf = leases.shelf

    @contextlib.asynccontextmanager
    async def placed(
        self, lease: AsyncLease, sent: TracedPrompt, growth: RequestGrowth | None, held: int | None
    ) -> AsyncIterator[tuple[UpstreamCall, int | None]]:
        """A call to the slot that it is placed in, and that slot, until it is answered.

        ``held``: the one that the request has already, and goes on in.
        """
        several, call = lease.instance_slots > 1 and takes_slot(sent.call), sent.call
        prompt = sent.prompt if lease.alone and (several or self._slots.several) else None
        seen = None if prompt is None else sent.trace
        if growth is not None and not several:
            seen = growth.trace
        if held is not None or (seen is None and not several):
            yield replace(call, body=prompt.to(held)) if several and prompt and held is not None else call, held
            return
        with self._slots.taken(lease, seen) as slot:
            if seen is not None:
                await self._shelf.exchange(lease, slot, seen)
            yield replace(call, body=prompt.to(slot)) if several and prompt and slot is not None else call, slot
