"""The agent of a node: it keeps the node's card on NATS, and sends its heartbeats.

Nothing here ends when NATS or lmxd does: it says nothing for as long, and begins again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import nats.errors
import nats.js.errors
from nats.aio.client import Client as Bus

from lmxd import __version__
from lmxd.errors import LmxdError
from lmxd.fleet import clock, names
from lmxd.fleet.bus import heed_cancellation
from lmxd.fleet.node.observing import NodeLook, heartbeat, offered
from lmxd.fleet.reports import NodeCard
from lmxd.pausing import pause
from lmxd.rpc.client import AsyncClient

log = logging.getLogger(__name__)
_PERIOD: Final = 1.0
"""Seconds between two heartbeats when nothing happens, more or less by a fifth: nodes do not speak at once."""
_JITTER: Final = 0.2
_GAP: Final = 0.2
"""Seconds between two heartbeats, however much happens."""
_PAUSE: Final = 0.5
"""Seconds before lmxd or NATS is tried again."""
_LOOK: Final = 5.0
"""Seconds between two looks at the models: the configuration may have been read again."""
_KEPT: Final = 20.0
"""Seconds after which an unchanged card is put again: the bucket forgets it after 60."""
_BUS_ERRORS: Final = (nats.errors.Error, nats.js.errors.Error, OSError)


@dataclass(frozen=True)
class NodeIdentity:
    """The node as its settings name it. ``address``: HOST:PORT of its door. ``started``: of this process alone."""

    node: str
    address: str
    labels: Mapping[str, str] = field(default_factory=dict)
    started: str = field(default_factory=lambda: secrets.token_hex(8))


class Agent:
    """Says of a node what others need to know. ``socket``: its lmxd's."""

    def __init__(self, about: NodeIdentity, socket: Path) -> None:
        self._about, self._socket = about, socket
        self._number = 0
        self._random = secrets.SystemRandom()
        self._happened, self._came = asyncio.Event(), asyncio.Event()
        self._card: NodeCard | None = None
        """The card that NATS has, as far as is known."""

    async def run(self, bus: Bus) -> None:
        """Speak until cancelled, over a connection to lmxd that is made anew whenever lmxd is there again."""
        silent = False
        while True:
            try:
                async with AsyncClient(self._socket, self._heard, patience=0) as lmxd, asyncio.TaskGroup() as group:
                    await lmxd.watch()
                    if silent:
                        log.info("lmxd is there again")
                    silent = False
                    group.create_task(self._beats(lmxd, bus))
                    group.create_task(self._cards(lmxd, bus))
            except* LmxdError as errors:
                if not silent:
                    log.warning("this node is silent: %s", errors.exceptions[0])
                silent = True
            await asyncio.sleep(_PAUSE)

    async def found(self) -> None:
        """NATS is there again, perhaps without what it had."""
        self._card = None
        self._came.set()

    async def leave(self, bus: Bus) -> None:
        """Take the card away: no gateway asks this node from now on."""
        with suppress(*_BUS_ERRORS, TimeoutError):
            async with asyncio.timeout(_PERIOD):
                bucket = await bus.jetstream().key_value(names.BUCKET)
                await bucket.delete(self._about.node)

    def _heard(self, _: str, __: dict[str, Any]) -> None:
        self._happened.set()

    async def _beats(self, lmxd: AsyncClient, bus: Bus) -> None:
        while True:
            self._happened.clear()
            await self.beat(lmxd, bus)
            await asyncio.sleep(_GAP)
            rest = _PERIOD * self._random.uniform(1 - _JITTER, 1 + _JITTER) - _GAP
            await pause(self._happened, rest)

    async def beat(self, lmxd: AsyncClient, bus: Bus) -> None:
        """Send one heartbeat, unless NATS is away: an old one is of no use when it is back. LmxdError of lmxd's."""
        now = clock.now()  # the answers may take a while: nothing in them is older than this
        status, found = await asyncio.gather(lmxd.status(), lmxd.instances())
        if not bus.is_connected:
            return
        self._number += 1
        look, about = NodeLook(status, tuple(found.instances)), self._about
        beat = heartbeat(look, os.getuid(), node=about.node, started=about.started, number=self._number, now=now)
        with suppress(*_BUS_ERRORS):
            await bus.publish(names.heartbeat(about.node), msgspec.json.encode(beat))

    async def _cards(self, lmxd: AsyncClient, bus: Bus) -> None:
        put_at = float("-inf")
        while True:
            card = await self.card(lmxd)
            if (card != self._card or time.monotonic() - put_at >= _KEPT) and await self._put(bus, card):
                self._card, put_at = card, time.monotonic()
            heed_cancellation()
            self._came.clear()
            await pause(self._came, _LOOK if self._card == card else _PERIOD)

    async def card(self, lmxd: AsyncClient) -> NodeCard:
        """The card of this node now. LmxdError of lmxd's."""
        about = self._about
        return NodeCard(
            node=about.node,
            address=about.address,
            version=__version__,
            started=about.started,
            labels=dict(about.labels),
            models=offered((await lmxd.models()).models),
        )

    async def _put(self, bus: Bus, card: NodeCard) -> bool:
        """Whether NATS has it now."""
        if not bus.is_connected:
            return False
        try:
            bucket = await bus.jetstream().key_value(names.BUCKET)
            await bucket.put(card.node, msgspec.json.encode(card))
        except nats.js.errors.BucketNotFoundError:
            log.info("NATS has no place for cards yet: the broker makes it")
            return False
        except (*_BUS_ERRORS, TimeoutError) as error:
            log.warning("the card of this node could not be put on NATS: %r", error)
            return False
        return True
