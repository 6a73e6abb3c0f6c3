"""Answers that nobody waits for any more: their engine works on until it notices that, and takes cells meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import msgspec
from msgspec import Struct

from lmxd.errors import LmxdError
from lmxd.gateway.http.chunks import Chunks
from lmxd.gateway.http.kept_connections import KeptConnections
from lmxd.gateway.http.upstream import exchange
from lmxd.gateway.http.upstream_call import UpstreamCall
from lmxd.rpc.messages import Granted

_LOOK: Final = 1.2
"""Seconds between two looks: llama-server notices that a connection is closed once nobody was answered for a second."""


class _Slot(Struct, frozen=True):
    """A slot, as llama-server describes it, with the number of what it works on."""

    id: int
    is_processing: bool
    id_task: int = -1


async def until_noticed(lease: Granted, slot: int | None, connections: KeptConnections) -> None:
    """Return once an engine works on nothing any more that it worked on before, or does not tell.

    ``slot``: the only one of interest, if it is known.
    """
    before = busy = await _busy(lease, slot, connections)
    while before & busy:
        await asyncio.sleep(_LOOK)
        busy = await _busy(lease, slot, connections)


async def _busy(lease: Granted, slot: int | None, connections: KeptConnections) -> frozenset[_Slot]:
    """Its slots that work: it tells between two batches, behind all that it was asked before."""
    call = UpstreamCall(method="GET", path="/slots", headers={})
    with contextlib.suppress(LmxdError, msgspec.MsgspecError):
        with contextlib.closing(await exchange(lease, call, connections)) as answer:
            found, head = bytearray(), await answer.head()
            await answer.body(Chunks(found.extend).feed if head.chunked else found.extend)
        slots = msgspec.json.decode(found, type=list[_Slot])
        return frozenset(each for each in slots if each.is_processing and slot in (None, each.id))
    return frozenset()
