"""The dashboard of a fleet's gateway: one page, and what its nodes say, as JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from aiohttp import web

from lmxd import __version__, plain_json
from lmxd.config.keys import Caller
from lmxd.fleet.choosing.table import NodeTable
from lmxd.fleet.finding.quotas import FleetQuotas
from lmxd.fleet.seen import RunningModel, SeenNode, running, seen
from lmxd.fleet.seen_users import SeenUser, users
from lmxd.gateway.answers.reply import sent
from lmxd.gateway.board.board import EVENT_STREAM, framed
from lmxd.gateway.board.web_page import WebPage
from lmxd.gateway.requests.authentication import ANYBODY, CALLER
from lmxd.pausing import pause

_SCRIPTS: Final = ("elements", "units", "following", "nodes")
_LOOK: Final = 1.0
"""Seconds between two looks while somebody watches."""


class FleetBoard:
    """A page for everybody with a key: bytes, slots and queues by node, and what its user has. ``now``: of the table.

    What other users have is for administrators' keys.
    """

    def __init__(self, fleet: str, table: NodeTable, quotas: FleetQuotas, now: Callable[[], float]) -> None:
        self._fleet, self._table, self._quotas, self._now = fleet, table, quotas, now
        self._page = WebPage("fleet.html", _SCRIPTS)
        self._ended = asyncio.Event()

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/", self._show), web.get("/lmxd/events", self._events), web.get("/lmxd/state", self._state)]

    async def end(self, app: web.Application) -> None:
        """End the streams of those who watch: the server would wait for them."""
        self._ended.set()

    async def _show(self, request: web.Request) -> web.Response:
        return web.Response(body=self._page.body.encode(), headers=self._page.headers)

    async def _state(self, request: web.Request) -> web.Response:
        return web.json_response(self._snapshot(request[CALLER]), dumps=plain_json.encode)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """``state`` at every look."""
        stream = web.StreamResponse(headers=EVENT_STREAM)
        await stream.prepare(request)
        while not self._ended.is_set():
            await sent(stream, framed("state", self._snapshot(request[CALLER])))
            await pause(self._ended, _LOOK)
        return stream

    def _snapshot(self, caller: Caller) -> dict[str, Any]:
        nodes = seen(self._table, self._now())
        found = users(nodes, self._quotas.users, self._quotas.here())
        if not caller.admin:
            found = [user for user in found if caller is not ANYBODY and user.name == caller.name]
        return snapshot_of(self._fleet, nodes, found) | {"admin": caller.admin, "held": self._quotas.held}


def snapshot_of(fleet: str, nodes: Sequence[SeenNode], users: Sequence[SeenUser]) -> dict[str, Any]:
    """The content of the page. Bytes are ``int`` bytes, times seconds."""
    up = {model.model: model for model in running(nodes)}
    offered: dict[str, list[str]] = {name: [] for name in up}
    for node in nodes:
        for each in node.card.models:
            offered.setdefault(each.model, []).append(node.name)
    return {
        "fleet": fleet,
        "version": __version__,
        "nodes": [_node(node) for node in nodes],
        "models": [_model(name, up.get(name), where) for name, where in sorted(offered.items())],
        "users": [user.as_plain() for user in users],
    }


def _node(node: SeenNode) -> dict[str, Any]:
    return {
        "node": node.name,
        "state": node.state,
        "silent": node.silent,
        "address": node.card.address,
        "labels": [f"{key}={value}" for key, value in sorted(node.card.labels.items())],
        "free": node.free,
        "idle": node.idle,
        "capacity": node.capacity,
        "slots": node.slots,
        "used": node.used,
        "waiting": node.waiting,
        "eta": node.eta,
        "models": len(node.card.models),
    }


def _model(name: str, up: RunningModel | None, nodes: list[str]) -> dict[str, Any]:
    return {
        "model": name,
        "slots": up.slots if up else 0,
        "used": up.used if up else 0,
        "ready": up.ready if up else [],
        "loading": up.loading if up else [],
        "nodes": nodes,
    }
