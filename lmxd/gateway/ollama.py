"""The parts of ollama's API that its clients ask for, over the same leases."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from aiohttp import web

from lmxd import __version__
from lmxd.errors import LmxdError
from lmxd.gateway import failures, translation
from lmxd.gateway.answers import Vectors, understood
from lmxd.gateway.bodies import Bodies
from lmxd.gateway.events import collected, events
from lmxd.gateway.leases import LeaseWish
from lmxd.gateway.models import KnownModels
from lmxd.gateway.paths import routes
from lmxd.gateway.reply import sent
from lmxd.gateway.serving import Serving
from lmxd.gateway.upstream import UpstreamCall
from lmxd.gateway.wanted import Chat, Embed, Generate, Message, Question, decode_all
from lmxd.rpc.books import InstanceInfo, ModelInfo
from lmxd.rpc.client import AsyncClient

log = logging.getLogger(__name__)
API: Final = "0.12.0"
"""The ollama whose answers these are like. Clients compare it with what they need."""
_LIST: Final = "/api/tags"
_FOREVER: Final = 100 * 365 * 86400.0
"""Seconds until a pinned instance expires: ollama's clients want a date."""
Shape = Callable[[dict[str, Any]], dict[str, Any]]


class Ollama:
    """The routes of ollama's API."""

    def __init__(self, client: AsyncClient, models: KnownModels, serving: Serving, bodies: Bodies) -> None:
        self._client = client
        self._models = models
        self._serving = serving
        self._bodies = bodies

    def routes(self) -> list[web.RouteDef]:
        return [
            *routes("GET", "/api/version", self._version),
            *routes("GET", "/api/tags", self._tags),
            *routes("GET", "/api/ps", self._ps),
            *routes("POST", "/api/show", self._show),
            *routes("POST", "/api/chat", self._chat),
            *routes("POST", "/api/generate", self._generate),
            *routes("POST", "/api/embed", self._embed),
        ]

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": API, "lmxd": __version__})

    async def _tags(self, request: web.Request) -> web.Response:
        return web.json_response({"models": [_tag(x) for x in await self._models.all()]})

    async def _ps(self, request: web.Request) -> web.Response:
        found = (await self._client.instances()).instances
        return web.json_response({"models": [_running(i) for i in found if i.endpoint is not None or i.leases]})

    async def _show(self, request: web.Request) -> web.Response:
        said = decode_all(await self._bodies.read(request), Question)
        model = await self._models.named(said.wanted, _LIST)
        return web.json_response(
            {
                "details": _DETAILS,
                "model_info": {"general.architecture": "", "context_length": model.ctx},
                "capabilities": ["completion", "tools"],
            }
        )

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        said = decode_all(await self._bodies.read(request), Chat)
        if not said.messages:
            return await self._loaded(request, said, {"message": {"role": "assistant", "content": ""}})

        def shape(message: dict[str, Any]) -> dict[str, Any]:
            return {"message": {"role": "assistant", "content": "", **message}}

        body = translation.asked(said, said.messages)
        return await self._answer(request, said, "/v1/chat/completions", body, shape)

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        said = decode_all(await self._bodies.read(request), Generate)
        if said.suffix:
            raise LmxdError("invalid_params", "suffix: not known here", "POST /upstream/MODEL/infill has it")
        if not said.prompt:
            return await self._loaded(request, said, {"response": ""})

        def shape(message: dict[str, Any]) -> dict[str, Any]:
            text = {"response": message.get("content", "")}
            return text | ({"thinking": message["thinking"]} if "thinking" in message else {})

        if said.raw:
            body = translation.options(said) | {"prompt": said.prompt}
            return await self._answer(request, said, "/v1/completions", body, shape)
        system = [Message(role="system", content=said.system)] if said.system else []
        body = translation.asked(said, [*system, Message(content=said.prompt, images=said.images)])
        return await self._answer(request, said, "/v1/chat/completions", body, shape)

    async def _embed(self, request: web.Request) -> web.Response:
        said = decode_all(await self._bodies.read(request), Embed)
        if not bytes(said.input).startswith((b'"', b"[")):
            raise LmxdError("invalid_params", "input: Expected `str | array`", "docs/gateway.md")
        body = msgspec.json.encode({"model": said.wanted, "input": said.input})
        async with self._serving.asked(self._wish(request, said), UpstreamCall(path="/v1/embeddings", body=body)) as (
            answer,
            head,
        ):
            found = await collected(answer, head)
        if head.status != 200:
            raise failures.of_engine(found, head.status)
        vectors = [x.embedding for x in understood(found, Vectors).data]
        made = msgspec.json.encode({"model": said.wanted, "embeddings": vectors})
        return web.Response(body=made, content_type="application/json")

    async def _loaded(self, request: web.Request, said: Question, empty: dict[str, Any]) -> web.Response:
        """Load the model of an empty request. A model to be unloaded ends when it is idle, or in the way."""
        if not said.unloads:
            await self._serving.load(self._wish(request, said))
        reason = "unload" if said.unloads else "load"
        return web.json_response(_line(said.wanted, empty) | {"done": True, "done_reason": reason})

    async def _answer(
        self, request: web.Request, said: Question, path: str, body: dict[str, Any], shape: Shape
    ) -> web.StreamResponse:
        """The translation of an answer: line by line, or as one object."""
        begun, call = time.monotonic_ns(), UpstreamCall(path=path, body=msgspec.json.encode(body))
        wish, model = self._wish(request, said), said.wanted
        async with self._serving.asked(wish, call) as (answer, head):
            loaded = time.monotonic_ns()
            if head.status != 200:
                raise failures.of_engine(await collected(answer, head), head.status)
            found = translation.Answer()
            lines = (message async for chunk in events(answer, head) if (message := found.take(chunk)))
            if said.stream is not False:
                shaped = (_line(model, shape(message)) | {"done": False} async for message in lines)
                return await _streamed(request, shaped, lambda: _last(model, shape({}), found, begun, loaded))
            whole = translation.Whole()
            async for message in lines:
                whole.add(message)
            return web.json_response(_last(model, shape(whole.message), found, begun, loaded))

    def _wish(self, request: web.Request, said: Question) -> LeaseWish:
        return self._serving.wish(request, said.wanted, said.options.num_ctx if said.options else None)


async def _streamed(
    request: web.Request, lines: AsyncIterator[dict[str, Any]], last: Callable[[], dict[str, Any]]
) -> web.StreamResponse:
    """The lines of an answer as they come. An error, of whatever kind, ends them as ollama's do."""
    stream = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await stream.prepare(request)
    try:
        async for line in lines:
            await sent(stream, _json_line(line))
        await sent(stream, _json_line(last()))
    except LmxdError as error:
        await sent(stream, _json_line({"error": str(error)}))
    except ConnectionError:
        raise  # the client's: there is nobody to tell
    except Exception as error:
        log.exception("%s %s", request.method, request.path)
        await sent(stream, _json_line({"error": f"{type(error).__name__}: {error} (report this)"}))
    return stream


_DETAILS: Final = {
    "format": "gguf",
    "family": "",
    "families": [],
    "parameter_size": "",
    "quantization_level": "",
    "parent_model": "",
}


def _tag(model: ModelInfo) -> dict[str, Any]:
    size = max(model.bytes.values(), default=0)
    stamp = datetime.fromtimestamp(0, UTC).isoformat()
    return {
        "name": model.model,
        "model": model.model,
        "modified_at": stamp,
        "size": size,
        "digest": "",
        "details": _DETAILS,
    }


def _running(instance: InstanceInfo) -> dict[str, Any]:
    left = _FOREVER if instance.idle_timeout is None else max(0.0, instance.idle_timeout - instance.idle)
    on_gpu = sum(n for device, n in instance.charged.items() if device != "host")
    return {
        "name": instance.model,
        "model": instance.model,
        "size": sum(instance.charged.values()),
        "size_vram": on_gpu,
        "digest": "",
        "details": _DETAILS,
        "expires_at": (datetime.now(UTC) + timedelta(seconds=left)).isoformat(),
        "context_length": instance.ctx,
    }


def _line(model: str, shaped: dict[str, Any]) -> dict[str, Any]:
    return {"model": model, "created_at": datetime.now(UTC).isoformat().replace("+00:00", "Z"), **shaped}


def _last(model: str, shaped: dict[str, Any], found: translation.Answer, begun: int, loaded: int) -> dict[str, Any]:
    """Durations are nanoseconds."""
    return _line(model, shaped) | {
        "done": True,
        "done_reason": found.reason,
        "total_duration": time.monotonic_ns() - begun,
        "load_duration": loaded - begun,
        **found.counts,
    }


def _json_line(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"
