"""What a node says of itself, as JSON: a card, which seldom changes, and heartbeats. Bytes are ``int`` bytes."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Text = Annotated[str, Meta(min_length=1, max_length=256)]
Count = Annotated[int, Meta(ge=0, le=2**62)]
Seconds = Annotated[float, Meta(ge=0, le=1e12)]


class Report(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Part of what a node says. Fields of later versions are ignored."""


class Offered(Report, frozen=True, kw_only=True, omit_defaults=True):
    """A model of a node's configuration. ``digest``: tells files and sizes of the same name apart.

    ``names``: all by which it may be asked for and is listed, its own first; empty: its own alone.
    ``needs``: bytes that a new instance is charged, by device, in the way that suits it best. ``load``: seconds until a
    new one is ready, about. ``ctx``: tokens of a slot; ``ctx_most``: what it may grow to.
    """

    model: Text
    digest: str = ""
    names: tuple[Text, ...] = ()
    capabilities: tuple[Text, ...] = ()
    ctx: Count = 0
    ctx_most: Count = 0
    slots: Count = 1
    needs: dict[str, Count] = {}
    load: Seconds = 0.0


class Card(Report, frozen=True, kw_only=True, omit_defaults=True):
    """A node. ``address``: HOST:PORT of its gateway, by mutual TLS. ``started``: another at each start of its agent."""

    node: Text
    address: Text
    version: Text
    started: Text
    labels: dict[str, str] = {}
    models: tuple[Offered, ...] = ()


class Room(Report, frozen=True, kw_only=True, omit_defaults=True):
    """A device. ``free``: bytes that could be promised now; ``idle``: of instances that nobody uses, and may end."""

    device: Text
    capacity: Count
    free: Count
    idle: Count = 0
    pool: str = ""


class Running(Report, frozen=True, kw_only=True, omit_defaults=True):
    """The instances of one model that are up, or come up. ``vacant``: requests more that they could serve at once."""

    model: Text
    slots: Count
    vacant: Count
    loading: bool = False


class Heartbeat(Report, frozen=True, kw_only=True, omit_defaults=True):
    """A node as it is now. ``sent``: by its own clock; ``number``: counts from 1 at each start of its agent.

    ``waiting``: requests in its queue, ``eta``: seconds until one that came now would be served. ``used``: byte-seconds
    of each user of the fleet since the agent was started.
    """

    node: Text
    started: Text
    number: Count
    sent: float
    rooms: tuple[Room, ...] = ()
    running: tuple[Running, ...] = ()
    waiting: Count = 0
    eta: Seconds = 0.0
    draining: bool = False
    used: dict[str, Seconds] = {}
