"""Builds the gateway: the routes, and how errors leave."""

from __future__ import annotations

import logging
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from lmxd.acts import Acts
from lmxd.config.gateway import GatewayConfig
from lmxd.errors import LmxdError
from lmxd.gateway import failures
from lmxd.gateway.authentication import Authentication, Unknown, actor
from lmxd.gateway.board import ACTIONS, Board
from lmxd.gateway.bodies import Bodies
from lmxd.gateway.failures import ErrorFormat
from lmxd.gateway.leases import Leases
from lmxd.gateway.metrics import GatewayMetrics
from lmxd.gateway.models import KnownModels
from lmxd.gateway.ollama import Ollama
from lmxd.gateway.openai import OpenAi
from lmxd.gateway.serving import Serving
from lmxd.listening.connection import begin, cut
from lmxd.text import shortened

log = logging.getLogger(__name__)
BOARD: Final = web.AppKey("board", Board)
_ACTS: Final = web.AppKey("acts", Acts)
_MIB: Final = 2**20
_LONGEST_TARGET: Final = 200
"""Characters of a method and path in the log: a stranger's may have thousands."""
_GRACE: Final = 30.0
"""Seconds that requests in flight have at the end."""


def runner(config: GatewayConfig, leases: Leases, authentication: Authentication) -> web.AppRunner:
    """The server. A handler is cancelled when its client goes: nobody waits or generates for one that left."""
    app = application(config, leases, authentication)
    return web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=_GRACE)


def application(config: GatewayConfig, leases: Leases, authentication: Authentication) -> web.Application:
    """All routes, behind the authentication."""
    metrics, acts = GatewayMetrics(), Acts(logging.getLogger("lmxd.gateway.audit"))
    client, models = leases.client, KnownModels(leases.client)
    serving = Serving(leases, models, metrics, config.wait)
    bodies = Bodies(each=int(config.max_body_mb * _MIB), together=int(config.max_bodies_mb * _MIB))

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            with authentication.entered(request) as caller:
                begin(request, None if authentication.is_open(request) else caller)
                if not request.raw_path.startswith("/"):
                    raise LmxdError("invalid_request", "the target is no path", "send the path alone")
                return await handler(request)
        except LmxdError as error:
            if error.code == "not_permitted" or request.path.startswith(ACTIONS):
                acts.refused(actor(request), f"{_asked(request)}: {error.message}", error.code)
            return _failed(request, error)
        except web.HTTPException as error:
            return _unknown(request, error)
        except ConnectionError:
            raise  # the client's: there is nobody to answer
        except Exception as error:
            return _unforeseen(request, error)
        finally:
            bodies.release(request)

    async def show_metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    app = web.Application(middlewares=[guard])
    app.on_response_prepare.append(_of_now)
    app.add_routes([web.get("/health", health), web.get("/metrics", show_metrics)])
    app.add_routes(OpenAi(models, serving, bodies).routes())
    app.add_routes(Ollama(client, models, serving, bodies).routes())
    board = app[BOARD] = Board(client, bodies)
    app.add_routes(board.routes())
    app.cleanup_ctx.append(board.run)
    app.on_shutdown.append(board.end)
    app[_ACTS] = acts
    app.on_cleanup.append(_end)
    return app


async def _end(app: web.Application) -> None:
    app[_ACTS].end()


def _unforeseen(request: web.Request, error: Exception) -> web.Response:
    """The answer to a request over which a mistake of ours came to light."""
    log.error("%s %s", request.method, request.path, exc_info=error)
    return _failed(request, LmxdError("internal", f"{type(error).__name__}: {error}", "report this"))


async def _of_now(_: web.Request, response: web.StreamResponse) -> None:
    """No proxy keeps an answer: it is for whoever asked, and of now."""
    response.headers.setdefault("Cache-Control", "no-store")


def _asked(request: web.Request) -> str:
    return shortened(f"{request.method} {request.path}", _LONGEST_TARGET)


def _unknown(request: web.Request, error: web.HTTPException) -> web.Response:
    what = f"{request.method} {request.path}: {error.reason.lower()}"
    unknown = LmxdError("unknown_method", what, "docs/gateway.md has the paths")
    return failures.response(unknown, error.status, ErrorFormat.of(request.path))


def _failed(request: web.Request, error: LmxdError) -> web.Response:
    """An error as the answer. ConnectionError if another was begun, which is cut: nobody takes it for whole."""
    if request.writer.output_size > 0:
        if request.transport is not None:
            cut(request.transport)
        raise ConnectionResetError("an answer that was begun cannot become an error") from error
    status = 401 if isinstance(error, Unknown) else failures.status_of(error)
    return failures.response(error, status, ErrorFormat.of(request.path))
