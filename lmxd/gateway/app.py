"""Builds the gateway: its routes, behind the guard."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from lmxd.acts import Acts
from lmxd.config.gateway import GatewayConfig
from lmxd.gateway.board.board import Board
from lmxd.gateway.guard import Entrance, Guard, of_now
from lmxd.gateway.leasing.leases import Leases
from lmxd.gateway.leasing.models import KnownModels
from lmxd.gateway.metrics import GatewayMetrics
from lmxd.gateway.ollama.generating import Ollama
from lmxd.gateway.ollama.models import OllamaModels
from lmxd.gateway.ollama.pulls import Pulls
from lmxd.gateway.openai import OpenAi
from lmxd.gateway.recent import RecentRequests
from lmxd.gateway.requests.bodies import Bodies
from lmxd.gateway.serving import Serving
from lmxd.gateway.unloading import Unloading

BOARD: Final = web.AppKey("board", Board)
_ACTS: Final = web.AppKey("acts", Acts)
_MIB: Final = 2**20
_GRACE: Final = 30.0
"""Seconds that requests in flight have at the end."""


def runner(
    config: GatewayConfig, leases: Leases, entrance: Entrance, pulls: Pulls, more: Iterable[web.AbstractRouteDef] = ()
) -> web.AppRunner:
    """The server. A handler is cancelled when its client goes: nobody waits or generates for one that left.

    ``more``: routes beside the gateway's own, behind the same entrance.
    """
    app = application(config, leases, entrance, pulls)
    app.add_routes(more)
    return web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=_GRACE)


def application(config: GatewayConfig, leases: Leases, entrance: Entrance, pulls: Pulls) -> web.Application:
    """All routes, behind the entrance."""
    metrics, acts = GatewayMetrics(), Acts(logging.getLogger("lmxd.gateway.audit"))
    client, models = leases.client, KnownModels(leases.client)
    recent = RecentRequests(prompts=config.capture_prompts)
    serving = Serving(leases, models, metrics, recent, config.wait, remote_media=config.remote_media)
    bodies = Bodies(each=int(config.max_body_mb * _MIB), together=int(config.max_bodies_mb * _MIB))

    async def show_metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    app = web.Application(middlewares=[Guard(entrance, bodies, acts).answer])
    app.on_response_prepare.append(of_now)
    app.add_routes([web.get("/health", health), web.get("/metrics", show_metrics)])
    app.add_routes(OpenAi(models, serving, bodies).routes())
    app.add_routes(Ollama(serving, bodies).routes())
    app.add_routes(OllamaModels(client, models, bodies, pulls).routes())
    app.add_routes(Unloading(client, models).routes())
    board = app[BOARD] = Board(client, models, bodies, recent)
    app.add_routes(board.routes())
    app.cleanup_ctx.append(board.run)
    app.on_shutdown.append(board.end)
    app[_ACTS] = acts
    app.on_cleanup.append(_end)
    return app


async def _end(app: web.Application) -> None:
    app[_ACTS].end()
