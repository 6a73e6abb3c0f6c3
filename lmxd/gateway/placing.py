"""The slot of an instance that a request is sent to: the one that has seen most of its prompt."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

from lmxd.errors import LmxdError
from lmxd.gateway.answers.events import collected
from lmxd.gateway.growing import RequestGrowth
from lmxd.gateway.http.upstream import exchange
from lmxd.gateway.http.upstream_call import UpstreamCall
from lmxd.gateway.leasing.leases import Leases
from lmxd.gateway.leasing.slots import Cells
from lmxd.gateway.requests.prompts import takes_slot
from lmxd.gateway.traced import TracedPrompt
from lmxd.rpc.client import AsyncLease


class Placing:
    """Places requests in slots."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._slots = leases.slots
        self._shelf = leases.shelf
        self._connections = leases.connections

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
        cells = None if growth is None else growth.cells(lease)
        takes = held is None and (several or seen is not None)
        tokens = 0 if growth is None or held is not None else growth.at_most(lease)
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self._leases.within(lease, tokens))
            slot = stack.enter_context(self._slots.taken(lease, seen)) if takes else held
            if slot is not None and cells is not None:
                await self._make_room(lease, slot, cells)
            if takes and seen is not None:
                await self._shelf.exchange(lease, slot, seen)
            yield replace(call, body=prompt.to(slot)) if several and prompt and slot is not None else call, slot

    async def _make_room(self, lease: AsyncLease, slot: int, cells: Cells) -> None:
        """Have idle slots erased whose cells a request in ``slot`` may need: those that were used longest ago first.

        Its engine would take that with the lowest number, however soon it is asked for again.
        """
        for other in self._slots.spares(lease, slot, cells):
            with contextlib.suppress(LmxdError):  # then its engine finds room itself
                call = UpstreamCall(path=f"/slots/{other}?action=erase", body=b"{}")
                with contextlib.closing(await exchange(lease, call, self._connections)) as answer:
                    await collected(answer, await answer.head())
