"""Builds the gateway of a fleet: its routes, behind the guard, and what they ask."""

from __future__ import annotations

import logging
import random
import ssl
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from lmxd.acts import Acts
from lmxd.fleet import clock
from lmxd.fleet.choosing.shares import FleetShares
from lmxd.fleet.choosing.table import NodeTable
from lmxd.fleet.finding.finding import Finding
from lmxd.fleet.finding.places import QueuePlaces
from lmxd.fleet.finding.quotas import FleetQuotas
from lmxd.fleet.gateway.asking import Asking
from lmxd.fleet.gateway.board import FleetBoard
from lmxd.fleet.gateway.doors import Doors
from lmxd.fleet.gateway.known import FleetModels
from lmxd.fleet.gateway.listing import FleetLists
from lmxd.fleet.gateway.metrics import FleetMetrics
from lmxd.fleet.gateway.requests import FleetRequests
from lmxd.fleet.hearing import Hearing
from lmxd.fleet.home import FleetSettings
from lmxd.gateway.guard import Entrance, Guard, of_now
from lmxd.gateway.requests.bodies import Bodies

_MIB: Final = 2**20
_GRACE: Final = 30.0
"""Seconds that requests in flight have at the end."""


@dataclass(frozen=True)
class FleetFront:
    """The server, what it hears of nodes, and the limits of its users."""

    runner: web.AppRunner
    hearing: Hearing
    quotas: FleetQuotas


def front(settings: FleetSettings, entrance: Entrance, tls: ssl.SSLContext) -> FleetFront:
    """The gateway of a fleet. ``tls``: for connections to nodes, with a gateway's certificate."""
    config, fleet = settings.gateway, settings.fleet
    now, table = clock.now, NodeTable()
    places, metrics, models = QueuePlaces(table), FleetMetrics(table, now), FleetModels(table, now)
    below = random.Random().randrange  # noqa: S311  # nobody gains by guessing which of three is asked
    finding = Finding(table, places, metrics, below, now)
    quotas = FleetQuotas(settings.users, FleetShares(table), now)

    def told_time(node: str, at: float) -> None:
        if table.told_time(node, at, now()):
            places.leave(node)

    asking = Asking(table, Doors(tls, fleet, told_time), finding, metrics, quotas)
    bodies = Bodies(each=int(config.max_body_mb * _MIB), together=int(config.max_bodies_mb * _MIB))
    requests = FleetRequests(asking, models, bodies, metrics, config.wait)
    acts = Acts(logging.getLogger("lmxd.gateway.audit"))

    def heard(node: str, at: float) -> None:
        places.heard(node, at)
        quotas.heard()

    async def show_metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def end(_: web.Application) -> None:
        acts.end()

    app = web.Application(middlewares=[Guard(entrance, bodies, acts).answer])
    app.on_response_prepare.append(of_now)
    app.add_routes([web.get("/health", health), web.get("/metrics", show_metrics)])
    board = FleetBoard(fleet, table, quotas, now)
    app.add_routes([*requests.routes(), *FleetLists(models).routes(), *board.routes()])
    app.on_shutdown.append(board.end)
    app.on_cleanup.append(end)
    running = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=_GRACE)
    return FleetFront(running, Hearing(table, heard, now), quotas)
