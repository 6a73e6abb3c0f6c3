"""Cards and heartbeats, as NATS brings them: they go into a table of nodes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

import nats.errors
import nats.js.errors
from nats.aio.client import Client as Bus
from nats.aio.msg import Msg
from nats.js.kv import KeyValue

from lmxd.fleet import names
from lmxd.fleet.bus import heed_cancellation
from lmxd.fleet.choosing.belief import believable
from lmxd.fleet.choosing.table import NodeTable
from lmxd.fleet.reading import read
from lmxd.fleet.reports import Heartbeat, NodeCard

log = logging.getLogger(__name__)
HEARS: Final = 3.0
"""Seconds in which each node that lives speaks at least once: until then one that is not known may come."""
_PAUSE: Final = 1.0
"""Seconds before the bucket is tried again."""
_QUIET: Final = 45.0
"""Seconds without a card after which they are asked for anew: nodes put theirs every 20, and a watch may be lost."""
_ERRORS: Final = (nats.errors.Error, nats.js.errors.Error, OSError, TimeoutError)


class Hearing:
    """Keeps the table. ``now``: its clock. ``told``: hears of each heartbeat that is news, by node and time."""

    def __init__(self, table: NodeTable, told: Callable[[str, float], None], now: Callable[[], float]) -> None:
        self._table, self._told, self._now = table, told, now
        self._again = asyncio.Event()
        """NATS was lost, and is there again: what is watched may be lost with it."""
        self._has_cards = False
        """All cards that there were at the start have come."""
        self._awaited: set[str] = set()
        """The nodes with a card that have not been heard."""
        self.complete = asyncio.Event()
        """Each node that has a card has been heard once."""

    async def lost(self) -> None:
        """NATS is gone: the table is believed for a while."""
        self._table.lost()

    async def found(self) -> None:
        """NATS is there again."""
        self._table.found(self._now())
        self._again.set()

    async def run(self, bus: Bus) -> None:
        """Hear until cancelled."""
        await bus.subscribe(names.HEARTBEATS, cb=self._beat)
        while True:
            self._again.clear()
            with contextlib.suppress(*_ERRORS):
                await self._cards(await bus.jetstream().key_value(names.BUCKET))
            heed_cancellation()
            await asyncio.sleep(_PAUSE)

    async def _beat(self, message: Msg) -> None:
        try:
            beat = believable(read(message.data, Heartbeat))
        except ValueError as error:
            log.debug("%s: %s", message.subject, error)
            return
        now = self._now()
        if message.subject == names.heartbeat(beat.node) and self._table.hear(beat, now):
            self._told(beat.node, now)
            self._awaited.discard(beat.node)
            self._look()

    async def _cards(self, bucket: KeyValue) -> None:
        """Take in all cards, and each that changes, until NATS was lost or nothing comes any more."""
        watcher = await bucket.watchall()
        again = asyncio.create_task(self._again.wait())
        try:
            while not again.done():
                coming = asyncio.ensure_future(watcher.updates(timeout=_QUIET))  # type: ignore[no-untyped-call]
                await asyncio.wait((coming, again), return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    coming.cancel()
                elif (entry := coming.result()) is not None:
                    self._card(entry)
                else:  # those that there were have come
                    self._has_cards = True
                    self._look()
        finally:
            again.cancel()
            with contextlib.suppress(*_ERRORS):
                await watcher.stop()  # type: ignore[no-untyped-call]

    def _look(self) -> None:
        """See whether each node that has a card has been heard."""
        if self._has_cards and not self._awaited and any(node.card is not None for node in self._table.nodes.values()):
            self.complete.set()

    def _card(self, entry: KeyValue.Entry) -> None:
        if entry.operation is not None or entry.value is None:
            self._table.forget_card(entry.key)
            self._awaited.discard(entry.key)
            return
        try:
            card = read(entry.value, NodeCard)
        except ValueError as error:
            log.warning("the card of node %s cannot be read: %s", entry.key, error)
            return
        if card.node == entry.key:
            self._table.hear_card(card)
            if not self._table.nodes[card.node].speaks(self._now()):
                self._awaited.add(card.node)
