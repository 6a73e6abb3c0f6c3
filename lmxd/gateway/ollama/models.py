"""ollama's routes about models: the lists, their descriptions, and the changes, which the configuration alone makes."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from aiohttp import web

from lmxd import __version__
from lmxd.errors import LmxdError
from lmxd.gateway.http.paths import routes
from lmxd.gateway.leasing.filters import filtered
from lmxd.gateway.leasing.models import KnownModels, Meaning
from lmxd.gateway.ollama.lines import LineReply
from lmxd.gateway.ollama.pulls import Pulls
from lmxd.gateway.requests.authentication import CALLER
from lmxd.gateway.requests.bodies import Bodies
from lmxd.gateway.requests.failures import StatusError
from lmxd.gateway.requests.wanted import ModelChange, Question, decode_all
from lmxd.rpc.books import InstanceInfo, ModelInfo
from lmxd.rpc.client import AsyncClient

API: Final = "0.12.0"
"""The ollama whose answers these are like. Clients compare it with what they need."""
LIST: Final = "/api/tags"
_FOREVER: Final = 100 * 365 * 86400.0
"""Seconds until a pinned instance expires: ollama's clients want a date."""
_BILLION: Final = 10**9


class OllamaModels:
    """The routes of ollama's API that ask for no tokens."""

    def __init__(self, client: AsyncClient, models: KnownModels, bodies: Bodies, pulls: Pulls) -> None:
        self._client = client
        self._pulls = pulls
        self._models = models
        self._bodies = bodies
        self._begun = time.time()

    def routes(self) -> list[web.RouteDef]:
        return [
            *routes("GET", "/api/version", self._version),
            *routes("GET", "/api/tags", self._tags),
            *routes("GET", "/api/ps", self._ps),
            *routes("POST", "/api/show", self._show),
            *routes("POST", "/api/pull", self._pull),
            *routes("POST", "/api/push", self._change),
            *routes("POST", "/api/copy", self._change),
            *routes("DELETE", "/api/delete", self._change),
            *routes("POST", "/api/create", self._create),
            web.route("*", "/api/blobs/{digest}", self._blob),
        ]

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": API, "lmxd": __version__})

    async def _tags(self, request: web.Request) -> web.Response:
        return web.json_response({"models": [self._tag(meant) for meant in await self._models.listed()]})

    def _tag(self, meant: Meaning) -> dict[str, Any]:
        model = meant.model
        return {
            "name": meant.name,
            "model": meant.name,
            "modified_at": self._modified(model),
            "size": model.file.size if model.file else max(model.bytes.values(), default=0),
            "digest": _digest(model),
            "details": _details(model, meant),
            "capabilities": model.capabilities,
        }

    def _modified(self, model: ModelInfo) -> str:
        return datetime.fromtimestamp(model.file.modified if model.file else self._begun, UTC).isoformat()

    async def _ps(self, request: web.Request) -> web.Response:
        found = (await self._client.instances()).instances
        known = {model.model: model for model in await self._models.all()}
        shown = [i for i in found if (i.endpoint is not None or i.leases) and i.model in known]
        return web.json_response({"models": [_running(i, known[i.model]) for i in shown]})

    async def _show(self, request: web.Request) -> web.Response:
        said = decode_all(await self._bodies.read(request), Question)
        meant = await self._models.meaning(said.wanted, LIST)
        model = meant.model
        shown = await self._client.show(model.model)
        kind = (shown.file and shown.file.architecture) or model.engine
        made = {
            "general.architecture": kind,
            f"{kind}.context_length": (shown.file and shown.file.trained_ctx) or model.ctx_most,
        }
        if shown.file:
            made["general.parameter_count"] = shown.file.parameters
        license = shown.metadata.get("general.license")
        return web.json_response(
            {
                "modelfile": f"# lmxd serves it as its configuration says\nFROM {model.model}\n",
                "parameters": "\n".join([f"num_ctx {model.ctx_most}", *_set(meant)]),
                "template": shown.template or "",
                "details": _details(model, meant),
                "model_info": shown.metadata | made,
                "capabilities": shown.capabilities,
                "modified_at": self._modified(model),
                **({"license": str(license)} if license else {}),
            }
        )

    async def _pull(self, request: web.Request) -> web.StreamResponse:
        """A model that is here is pulled. Another is fetched for administrators, with what it takes of the disk."""
        said = decode_all(await self._bodies.read(request), ModelChange)
        try:
            await self._models.named(said.wanted, LIST)
            steps = None
        except LmxdError as error:
            steps = self._pulls.of(said.wanted, request[CALLER], error)
        reply, streams = LineReply(request, streams=said.stream is not False), said.stream is not False
        async with reply.waiting(), contextlib.aclosing(steps or _already()) as lines:
            try:
                async for line in lines:
                    if streams:
                        await reply.send(line)
            except LmxdError as error:
                return await reply.fail(error)
            self._models.forget()
            if not streams:
                await reply.send({"status": "success"})
            return await reply.end()

    async def _change(self, request: web.Request) -> web.Response:
        said = decode_all(await self._bodies.read(request), ModelChange)
        model = await self._models.named(said.wanted, LIST)
        raise _refused(f"{model.model} is as the configuration says", "aliases: gives it names, rm takes it out")

    async def _create(self, request: web.Request) -> web.Response:
        said = decode_all(await self._bodies.read(request), ModelChange)
        raise _refused(f"{said.wanted} is not made from here", "an administrator adds models: lmxd pull, lmxd import")

    async def _blob(self, request: web.Request) -> web.Response:
        if request.method == "HEAD":
            raise LmxdError("unknown_id", "there is no such blob", "an administrator adds models: lmxd pull")
        raise _refused("files are not taken from here", "an administrator adds models: lmxd pull, lmxd import")


async def _already() -> AsyncGenerator[dict[str, Any], None]:
    """The steps to a model that is here."""
    for status in ("pulling manifest", "success"):
        yield {"status": status}


def _refused(what: str, remedy: str) -> LmxdError:
    return StatusError(403, "not_permitted", what, remedy)


def _digest(model: ModelInfo) -> str:
    """64 hexadecimal digits that stay the same: of its file, else of its name."""
    return model.file.digest if model.file else hashlib.sha256(model.model.encode()).hexdigest()


def _set(meant: Meaning) -> list[str]:
    """The parameters that its requests have, each in a line as ollama has them."""
    found = filtered({}, meant.filters)
    return [f"{name} {bytes(value).decode()}" for name, value in found.items()]


def _details(model: ModelInfo, meant: Meaning | None = None) -> dict[str, Any]:
    file = model.file
    kind = file.architecture if file else model.engine
    return {
        "parent_model": model.model if meant is not None and meant.variant is not None else "",
        "format": file.format if file else "",
        "family": kind,
        "families": [kind],
        "parameter_size": _count(file.parameters) if file else "",
        "quantization_level": file.quantization if file else "",
    }


def _count(parameters: int) -> str:
    """A number of parameters as ollama writes it: 8.0B, 134.52M."""
    if parameters >= _BILLION:
        return f"{parameters / _BILLION:.1f}B"
    return f"{parameters / 10**6:.2f}M" if parameters >= 10**6 else f"{parameters / 1000:.2f}K"


def _running(instance: InstanceInfo, model: ModelInfo) -> dict[str, Any]:
    left = _FOREVER if instance.idle_timeout is None else max(0.0, instance.idle_timeout - instance.idle)
    on_gpu = sum(n for device, n in instance.charged.items() if device != "host")
    return {
        "name": instance.model,
        "model": instance.model,
        "size": sum(instance.charged.values()),
        "size_vram": on_gpu,
        "digest": _digest(model),
        "details": _details(model),
        "expires_at": (datetime.now(UTC) + timedelta(seconds=min(left, _FOREVER))).isoformat(),
        "context_length": instance.ctx,
    }
