"""The routes of OpenAI's API, and of llama-server's own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any, Final

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from lmxd.errors import LmxdError
from lmxd.gateway.http.paths import MODEL, routes, target
from lmxd.gateway.leasing.models import KnownModels, Meaning, meant_by
from lmxd.gateway.requests.bodies import Bodies
from lmxd.gateway.requests.failures import is_anthropics
from lmxd.gateway.requests.own_model import require_own_model
from lmxd.gateway.requests.shut import require_open
from lmxd.gateway.requests.wanted import named_in, wants_stream
from lmxd.gateway.serving import Serving
from lmxd.rpc.books import ModelInfo

NAMED: Final = (
    "/v1/chat/completions",
    "/v1/chat/completions/input_tokens",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/rerank",
    "/v1/reranking",
    "/v1/responses",
    "/v1/responses/input_tokens",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/audio/speech",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
    "/v1/images/generations",
    "/v1/images/edits",
    "/v1/images/variations",
    "/completion",
    "/infill",
    "/embedding",
    "/tokenize",
    "/detokenize",
    "/apply-template",
)
"""Paths of requests that name their model in their body, as JSON or as a form."""
_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""Methods, with GET's HEAD, that have an answer as HTTP frames it: what follows a CONNECT is none."""


class OpenAi:
    """The routes of OpenAI's API, and of llama-server's own."""

    def __init__(self, models: KnownModels, serving: Serving, bodies: Bodies) -> None:
        self._known = models
        self._serving = serving
        self._bodies = bodies
        self._begun = int(time.time())
        self._listed: tuple[Sequence[ModelInfo], bytes] = (), b""
        """A list of models, and the answer that is made of it once."""

    def routes(self) -> list[web.RouteDef]:
        return [
            *(route for path in NAMED for route in routes("POST", path, self._by_body_at(path))),
            *routes("POST", "/v2/rerank", self._by_body_at("/v1/rerank")),
            *routes("GET", "/v1/models", self._models),
            *routes("GET", f"/v1/models/{MODEL}", self._model),
            *routes("GET", "/props", self._props),
            *(web.route(method, "/{_first:/*}upstream/{rest:.+}", self._upstream) for method in _METHODS),
        ]

    def _by_body_at(self, path: str) -> Handler:
        """The handler of a path, by whichever name it was asked for."""

        async def by_body(request: web.Request) -> web.StreamResponse:
            body = await self._bodies.read(request)
            said = named_in(body, request.headers.get("Content-Type", ""))
            wish = self._serving.wish(request, said.model)
            query = request.rel_url.raw_query_string
            there = f"{path}?{query}" if query else path
            return await self._serving.hand_on(request, wish, there, body, streams=bool(said.stream))

        return by_body

    async def _props(self, request: web.Request) -> web.StreamResponse:
        """The properties of a model's llama-server: which model, says the query."""
        model = request.query.get("model")
        if not model:
            raise LmxdError("invalid_params", "model: none is named", "ask for /props?model=NAME, of /v1/models")
        wish = self._serving.wish(request, model)
        return await self._serving.hand_on(request, wish, "/props", b"", streams=False)

    async def _upstream(self, request: web.Request) -> web.StreamResponse:
        """Everything of one model's llama-server."""
        model, path = await self._known.of_path(target(request).lstrip("/").removeprefix("upstream").lstrip("/"))
        path = path.lstrip("/")
        require_open(request.method, path)
        body = await self._bodies.read(request)
        names = await self._known.meanings()
        require_own_model(body, request.headers.get("Content-Type", ""), meant_by(model, names, "/v1/models"), names)
        wish = self._serving.wish(request, model)
        return await self._serving.hand_on(request, wish, "/" + path, body, streams=wants_stream(body))

    async def _models(self, request: web.Request) -> web.Response:
        if is_anthropics(request.headers):
            shown = [_anthropics(self._shown(meant)) for meant in await self._known.listed()]
            ends = {"first_id": shown[0]["id"] if shown else None, "last_id": shown[-1]["id"] if shown else None}
            return web.json_response({"data": shown, "has_more": False, **ends})
        models = await self._known.all()
        if not self._listed[1] or self._listed[0] is not models:
            shown = [self._shown(meant) for meant in await self._known.listed()]
            self._listed = models, msgspec.json.encode({"object": "list", "data": shown})
        return web.Response(body=self._listed[1], content_type="application/json", charset="utf-8")

    async def _model(self, request: web.Request) -> web.Response:
        name = request.match_info["model"]
        shown = self._shown(await self._known.meaning(name, "/v1/models"))
        return web.json_response(_anthropics(shown) if is_anthropics(request.headers) else shown)

    def _shown(self, meant: Meaning) -> dict[str, Any]:
        model = meant.model
        meta: dict[str, Any] = {
            "n_ctx": model.ctx_most,
            "slots": model.slots,
            "running": model.running,
            "bytes": model.bytes,
            "capabilities": model.capabilities,
            "media": model.media,
            "adapters": [PurePath(path).name for path in model.adapters],
        }
        return {
            "id": meant.name,
            "object": "model",
            "created": self._begun,
            "owned_by": "lmxd",
            **({"parent": model.model} if meant.variant else {}),
            "meta": meta | ({"problem": model.problem} if model.problem else {}),
        }


def _anthropics(shown: dict[str, Any]) -> dict[str, Any]:
    """A model as Anthropic's clients expect it."""
    created = datetime.fromtimestamp(shown["created"], UTC).isoformat()
    return {"type": "model", "id": shown["id"], "display_name": shown["id"], "created_at": created}
