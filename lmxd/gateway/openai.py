"""The routes of OpenAI's API, and of llama-server's own."""

from __future__ import annotations

import time
from typing import Any, Final

from aiohttp import web

from lmxd.errors import LmxdError
from lmxd.gateway.bodies import Bodies
from lmxd.gateway.models import KnownModels
from lmxd.gateway.serving import Serving
from lmxd.gateway.shut import require_open
from lmxd.gateway.wanted import NamedRequest, StreamedRequest, decode
from lmxd.rpc.books import ModelInfo

_NAMED: Final = ("chat/completions", "completions", "embeddings", "rerank", "reranking", "responses", "messages")
"""Paths of requests that name their model. The last two are llama-server's, of OpenAI's and Anthropic's make."""
_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""Methods, with GET's HEAD, that have an answer as HTTP frames it: what follows a CONNECT is none."""


class OpenAi:
    """The routes of OpenAI's API, and of llama-server's own."""

    def __init__(self, models: KnownModels, serving: Serving, bodies: Bodies) -> None:
        self._known = models
        self._serving = serving
        self._bodies = bodies
        self._begun = int(time.time())

    def routes(self) -> list[web.RouteDef]:
        return [
            *(web.post(f"/v1/{name}", self._by_body) for name in _NAMED),
            web.get("/v1/models", self._models),
            web.get("/v1/models/{model:.+}", self._model),
            *(web.route(method, "/upstream/{rest:.+}", self._upstream) for method in _METHODS),
        ]

    async def _by_body(self, request: web.Request) -> web.StreamResponse:
        body = await self._bodies.read(request)
        said = decode(body, NamedRequest)
        wish = self._serving.wish(request, said.model)
        return await self._serving.hand_on(request, wish, request.raw_path, body, streams=bool(said.stream))

    async def _upstream(self, request: web.Request) -> web.StreamResponse:
        """Everything of one model's llama-server."""
        model, path = await self._known.of_path(request.raw_path.removeprefix("/upstream/"))
        require_open(request.method, path)
        body = await self._bodies.read(request)
        wish = self._serving.wish(request, model)
        return await self._serving.hand_on(request, wish, "/" + path, body, streams=_streams(body))

    async def _models(self, request: web.Request) -> web.Response:
        shown = [self._shown(x, name) for x in await self._known.all() for name in (x.model, *x.aliases)]
        return web.json_response({"object": "list", "data": shown})

    async def _model(self, request: web.Request) -> web.Response:
        name = request.match_info["model"]
        return web.json_response(self._shown(await self._known.named(name, "/v1/models"), name))

    def _shown(self, model: ModelInfo, name: str) -> dict[str, Any]:
        meta = {"n_ctx": model.ctx, "slots": model.slots, "running": model.running, "bytes": model.bytes}
        return {
            "id": name,
            "object": "model",
            "created": self._begun,
            "owned_by": "lmxd",
            "meta": meta | ({"problem": model.problem} if model.problem else {}),
        }


def _streams(body: bytes) -> bool:
    try:
        return b'"stream"' in body and bool(decode(body, StreamedRequest).stream)
    except LmxdError:
        return False  # what it is, is for the instance to say
