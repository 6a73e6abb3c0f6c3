"""A node's words about itself, as JSON: a card, which seldom changes, and heartbeats. Bytes are ``int`` bytes."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

_Text = Annotated[str, Meta(min_length=1, max_length=256)]
_Count = Annotated[int, Meta(ge=0, le=2**62)]
_Use = Annotated[float, Meta(ge=0, le=1e30)]
_Seconds = Annotated[float, Meta(ge=0, le=1e12)]


class NodeReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Part of what a node says. Fields of later versions are ignored."""


class Offered(NodeReport, frozen=True, kw_only=True, omit_defaults=True):
    """A model of a node's configuration. ``digest``: tells files and sizes of the same name apart.

    ``names``: all by which it may be asked for and is listed, its own first; empty: its own alone.
    ``needs``: bytes that a new instance is charged, by device, in the way that suits it best. ``load``: seconds until a
    new one is ready, about. ``ctx``: tokens of a slot; ``ctx_most``: what it may grow to.
    """

    model: _Text
    digest: str = ""
    names: tuple[_Text, ...] = ()
    capabilities: tuple[_Text, ...] = ()
    ctx: _Count = 0
    ctx_most: _Count = 0
    slots: _Count = 1
    needs: dict[str, _Count] = {}
    load: _Seconds = 0.0


class NodeCard(NodeReport, frozen=True, kw_only=True, omit_defaults=True):
    """A node. ``address``: HOST:PORT of its door, by mutual TLS. ``started``: another at each start of its agent."""

    node: _Text
    address: _Text
    version: _Text
    started: _Text
    labels: dict[str, str] = {}
    models: tuple[Offered, ...] = ()


class DeviceRoom(NodeReport, frozen=True, kw_only=True, omit_defaults=True):
    """A device. ``free``: bytes that could be promised now; ``idle``: of instances that nobody uses, and may end."""

    device: _Text
    capacity: _Count
    free: _Count
    idle: _Count = 0
    pool: str = ""


class Running(NodeReport, frozen=True, kw_only=True, omit_defaults=True):
    """The instances of one model that are up, or come up. ``vacant``: requests more that they could serve at once."""

    model: _Text
    slots: _Count
    vacant: _Count
    loading: bool = False


class UserUse(NodeReport, frozen=True, kw_only=True, omit_defaults=True):
    """A user at a node, or at several. ``use``: recent byte-seconds, halved as the node's lmxd does."""

    use: _Use = 0.0
    bytes: _Count = 0
    leases: _Count = 0
    waiting: _Count = 0


class Heartbeat(NodeReport, frozen=True, kw_only=True, omit_defaults=True):
    """A node as it is now. ``sent``: when it looked, by its own clock.

    ``number``: counts from 1 at each start of its agent. ``waiting``: requests in its queue, ``eta``: seconds until one
    that came now would be served. ``users``: of the fleet, by name.
    """

    node: _Text
    started: _Text
    number: _Count
    sent: float
    rooms: tuple[DeviceRoom, ...] = ()
    running: tuple[Running, ...] = ()
    waiting: _Count = 0
    eta: _Seconds = 0.0
    draining: bool = False
    users: dict[str, UserUse] = {}
