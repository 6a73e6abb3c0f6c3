"""The routes that a node answers: OpenAI's, Anthropic's and ollama's API, and llama-server's own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from aiohttp import web

from lmxd.errors import LmxdError
from lmxd.fleet import names
from lmxd.fleet.choosing.prospects import Sought
from lmxd.fleet.finding.wanted import WantedAnswer
from lmxd.fleet.gateway.asking import Asking
from lmxd.fleet.gateway.conversations import conversation
from lmxd.fleet.gateway.known import FleetModels
from lmxd.fleet.gateway.metrics import FleetMetrics, FleetServed
from lmxd.fleet.gateway.refusals import NodeError
from lmxd.gateway.answers.reply import Reply
from lmxd.gateway.answers.signs_of_life import EVENTS, LINES, OBJECT, SignsOfLife
from lmxd.gateway.http.paths import routes, target
from lmxd.gateway.http.upstream_call import UpstreamCall
from lmxd.gateway.openai import NAMED
from lmxd.gateway.requests.authentication import ANYBODY, CALLER
from lmxd.gateway.requests.bodies import Bodies
from lmxd.gateway.requests.failures import status_of
from lmxd.gateway.requests.patience import patience
from lmxd.gateway.requests.wanted import Question, decode, named_in, wants_stream
from lmxd.gateway.serving import PRIORITY

_OLLAMAS: Final = ("/api/chat", "/api/generate", "/api/embed", "/api/embeddings", "/api/show")
_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_HANDED_ON: Final = frozenset(
    ("content-type", "accept", "accept-language", "user-agent", "anthropic-version", PRIORITY.lower())
)
_MOST_CONTEXT: Final = 2**27


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    """The request of a client. ``model``: by whichever name; ``ctx``: tokens, 0 for the usual context."""

    model: str
    body: bytes
    life: SignsOfLife | None = None
    ctx: int = 0


class FleetRequests:
    """Serves requests by nodes. ``wait``: the most seconds in queues."""

    def __init__(
        self,
        asking: Asking,
        models: FleetModels,
        bodies: Bodies,
        metrics: FleetMetrics,
        wait: float | None,
    ) -> None:
        self._asking, self._models, self._bodies = asking, models, bodies
        self._metrics, self._wait = metrics, wait

    def routes(self) -> list[web.RouteDef]:
        return [
            *(route for path in (*NAMED, "/v2/rerank") for route in routes("POST", path, self._openai)),
            *(route for path in _OLLAMAS for route in routes("POST", path, self._ollama)),
            *routes("GET", "/props", self._props),
            *(web.route(method, "/{_first:/*}upstream/{rest:.+}", self._upstream) for method in _METHODS),
        ]

    async def _openai(self, request: web.Request) -> web.StreamResponse:
        body = await self._bodies.read(request)
        said = named_in(body, request.headers.get("Content-Type", ""))
        return await self._hand_on(request, _Asked(model=said.model, body=body, life=EVENTS if said.stream else None))

    async def _ollama(self, request: web.Request) -> web.StreamResponse:
        body = await self._bodies.read(request)
        said = decode(body, Question)
        streams = said.stream is not False and request.path.rstrip("/").endswith(("/chat", "/generate"))
        context = min((said.options and said.options.num_ctx) or 0, _MOST_CONTEXT)
        life = LINES if streams else OBJECT
        asked = _Asked(model=said.wanted, body=body, ctx=max(0, int(context)), life=life)
        return await self._hand_on(request, asked)

    async def _props(self, request: web.Request) -> web.StreamResponse:
        model = request.query.get("model")
        if not model:
            raise LmxdError("invalid_params", "model: none is named", f"ask for /props?model=NAME, of {names.LIST}")
        return await self._hand_on(request, _Asked(model=model, body=b""))

    async def _upstream(self, request: web.Request) -> web.StreamResponse:
        """Everything of one model's llama-server: its node looks at what is asked."""
        model = self._models.of_path(target(request).partition("?")[0].lstrip("/").removeprefix("upstream").lstrip("/"))
        body = await self._bodies.read(request)
        return await self._hand_on(request, _Asked(model=model, body=body, life=EVENTS if wants_stream(body) else None))

    async def _hand_on(self, request: web.Request, asked: _Asked) -> web.StreamResponse:
        """A client's request as it is, and the answer of a node as it comes."""
        reply = Reply(request, asked.model, life=asked.life)
        with self._metrics.serving() as served:
            try:
                wanted = self._wanted(request, asked)
                served.model = wanted.sought.model
                async with self._asking.quotas.let_in(wanted, reply.progress) as placed:
                    return await self._answer(placed, _call(request, asked.body), reply, served)
            except LmxdError as error:
                return _failed(reply, error, served)
            except Exception:
                reply.cut()
                raise
            finally:
                reply.stop_signs()

    async def _answer(
        self, wanted: WantedAnswer, call: UpstreamCall, reply: Reply, served: FleetServed
    ) -> web.StreamResponse:
        """The answer of a node as it comes. LmxdError if there is none."""
        answer = await self._asking.answer(wanted, call, reply.progress)
        exchange, head, _ = answer
        served.node = exchange.node
        try:
            told = replace(head, lines=(*head.lines, f"{names.ANSWERED_BY}: {exchange.node}".encode()))
            return await reply.relay(exchange, told)
        finally:
            served.status = exchange.outcome(head)
            self._asking.end(answer)

    def _wanted(self, request: web.Request, asked: _Asked) -> WantedAnswer:
        """LmxdError ``unknown_model``."""
        caller = request[CALLER]
        user = None if caller is ANYBODY else caller.name
        model = self._models.named(asked.model, "/api/tags" if request.path.startswith("/api/") else names.LIST)
        return WantedAnswer(
            sought=Sought(model=model, ctx=asked.ctx, session=conversation(user, model, asked.body)),
            user=user,
            wait=patience(request.headers, self._wait),
            since=self._asking.now(),
        )


def _call(request: web.Request, body: bytes) -> UpstreamCall:
    """The request that a node is sent."""
    headers = {name: value for name, value in request.headers.items() if name.lower() in _HANDED_ON}
    return UpstreamCall(method=request.method, path=target(request), body=body, headers=headers)


def _failed(reply: Reply, error: LmxdError, served: FleetServed) -> web.StreamResponse:
    """The answer that is an error: a node's as it came, where its status can still tell that it is one."""
    served.status = status_of(error)
    if isinstance(error, NodeError):
        served.node = error.node
        if not reply.begun:
            reply.stop_signs()
            headers = error.headers | {names.ANSWERED_BY: error.node}
            return web.Response(status=error.status, body=error.body, headers=headers)
    return reply.fail(error)
