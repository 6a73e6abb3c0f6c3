"""The parts of ollama's API that its clients ask for, over the same leases."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from aiohttp import web

from lmxd import __version__
from lmxd.errors import LmxdError
from lmxd.gateway import translation
from lmxd.gateway.events import collected, events
from lmxd.gateway.leases import LeaseWish
from lmxd.gateway.models import KnownModels
from lmxd.gateway.serving import Serving, model_of, parsed
from lmxd.gateway.upstream import UpstreamCall
from lmxd.rpc.books import InstanceInfo, ModelInfo
from lmxd.rpc.client import AsyncClient

API: Final = "0.12.0"
"""The ollama whose answers these are like. Clients compare it with what they need."""
_LIST: Final = "/api/tags"
_FOREVER: Final = 100 * 365 * 86400.0
"""Seconds until a pinned instance expires: ollama's clients want a date."""
Shape = Callable[[dict[str, Any]], dict[str, Any]]


class Ollama:
    """The routes of ollama's API."""

    def __init__(self, client: AsyncClient, models: KnownModels, serving: Serving) -> None:
        self._client = client
        self._models = models
        self._serving = serving

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/version", self._version),
            web.get("/api/tags", self._tags),
            web.get("/api/ps", self._ps),
            web.post("/api/show", self._show),
            web.post("/api/chat", self._chat),
            web.post("/api/generate", self._generate),
            web.post("/api/embed", self._embed),
        ]

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": API, "lmxd": __version__})

    async def _tags(self, request: web.Request) -> web.Response:
        return web.json_response({"models": [_tag(x) for x in await self._models.all()]})

    async def _ps(self, request: web.Request) -> web.Response:
        found = (await self._client.instances()).instances
        return web.json_response({"models": [_running(i) for i in found if i.endpoint is not None or i.leases]})

    async def _show(self, request: web.Request) -> web.Response:
        model = await self._models.named(_name(parsed(await request.read())), _LIST)
        return web.json_response(
            {
                "details": _DETAILS,
                "model_info": {"general.architecture": "", "context_length": model.ctx},
                "capabilities": ["completion", "tools"],
            }
        )

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        said = await self._said(request)
        messages = said.get("messages") or []
        if not messages:
            return await self._loaded(request, said, {"message": {"role": "assistant", "content": ""}})

        def shape(message: dict[str, Any]) -> dict[str, Any]:
            return {"message": {"role": "assistant", "content": "", **message}}

        return await self._answer(request, said, "/v1/chat/completions", translation.asked(said, messages), shape)

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        said = await self._said(request)
        prompt, system = said.get("prompt") or "", said.get("system")
        if said.get("suffix"):
            raise LmxdError("invalid_params", "suffix: not known here", "POST /upstream/MODEL/infill has it")
        if not prompt:
            return await self._loaded(request, said, {"response": ""})

        def shape(message: dict[str, Any]) -> dict[str, Any]:
            text = {"response": message.get("content", "")}
            return text | ({"thinking": message["thinking"]} if "thinking" in message else {})

        if said.get("raw"):
            body = translation.options(said) | {"prompt": prompt}
            return await self._answer(request, said, "/v1/completions", body, shape)
        user = {"role": "user", "content": prompt, "images": said.get("images")}
        body = translation.asked(said, ([{"role": "system", "content": system}] if system else []) + [user])
        return await self._answer(request, said, "/v1/chat/completions", body, shape)

    async def _embed(self, request: web.Request) -> web.Response:
        said = await self._said(request)
        call = UpstreamCall(
            path="/v1/embeddings", body=json.dumps({"model": said["model"], "input": said["input"]}).encode()
        )
        async with self._serving.asked(await self._wish(request, said), call) as (answer, head):
            body = parsed(await collected(answer, head))
        if head.status != 200:
            raise _refused(body, head.status)
        return web.json_response({"model": said["model"], "embeddings": [x["embedding"] for x in body["data"]]})

    async def _loaded(self, request: web.Request, said: Mapping[str, Any], empty: dict[str, Any]) -> web.Response:
        """Load the model of an empty request. A model to be unloaded ends when it is idle, or in the way."""
        unload = said.get("keep_alive") in (0, "0", "0s")
        if not unload:
            await self._serving.load(await self._wish(request, said))
        reason = "unload" if unload else "load"
        return web.json_response(_line(said["model"], empty) | {"done": True, "done_reason": reason})

    async def _answer(
        self, request: web.Request, said: Mapping[str, Any], path: str, body: dict[str, Any], shape: Shape
    ) -> web.StreamResponse:
        """The translation of an answer: line by line, or as one object."""
        begun, call = time.monotonic_ns(), UpstreamCall(path=path, body=json.dumps(body).encode())
        wish, model = await self._wish(request, said), said["model"]
        async with self._serving.asked(wish, call) as (answer, head):
            loaded = time.monotonic_ns()
            if head.status != 200:
                raise _refused(parsed(await collected(answer, head)), head.status)
            found = translation.Answer()
            lines = (message async for chunk in events(answer, head) if (message := found.take(chunk)))
            if said.get("stream", True):
                stream = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
                await stream.prepare(request)
                async for message in lines:
                    await stream.write(_json_line(_line(model, shape(message)) | {"done": False}))
                await stream.write(_json_line(_last(model, shape({}), found, begun, loaded)))
                return stream
            whole: dict[str, Any] = {}
            async for message in lines:
                for key, value in message.items():
                    whole[key] = whole[key] + value if key in whole else value
            return web.json_response(_last(model, shape(whole), found, begun, loaded))

    async def _said(self, request: web.Request) -> dict[str, Any]:
        said = parsed(await request.read())
        return said | {"model": _name(said)}

    async def _wish(self, request: web.Request, said: Mapping[str, Any]) -> LeaseWish:
        """A context larger than the usual one is a wish; a smaller one is had with it."""
        ctx = (said.get("options") or {}).get("num_ctx")
        if not isinstance(ctx, int) or ctx <= (await self._models.named(said["model"], _LIST)).ctx:
            ctx = None
        return self._serving.wish(request, said["model"], ctx)


def _name(said: Mapping[str, Any]) -> str:
    """ollama's clients say llama for llama:latest, or the other way round."""
    name = model_of({"model": said.get("model") or said.get("name")})
    return name.removesuffix(":latest")


def _refused(body: Mapping[str, Any], status: int) -> LmxdError:
    error = body.get("error")
    message = error.get("message") if isinstance(error, dict) else error
    return LmxdError("invalid_params" if status < 500 else "internal", str(message or body), "")


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
