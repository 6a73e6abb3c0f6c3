"""Unloading over HTTP: llama-swap's routes. Only what is idle and not pinned ends."""

from __future__ import annotations

from aiohttp import web

from lmxd.gateway.http.paths import MODEL, routes
from lmxd.gateway.leasing.models import KnownModels
from lmxd.gateway.requests.authentication import ANYBODY, CALLER
from lmxd.rpc.books import InstanceInfo
from lmxd.rpc.client import AsyncClient


class Unloading:
    """The routes that end models, and the one that says which run."""

    def __init__(self, client: AsyncClient, models: KnownModels) -> None:
        self._client = client
        self._models = models

    def routes(self) -> list[web.RouteDef]:
        found = [*routes("GET", "/running", self._running), *routes("POST", "/unload", self._all)]
        for path in ("/api/unload", "/api/models/unload"):
            found += [*routes("POST", path, self._all), *routes("POST", f"{path}/{MODEL}", self._one)]
        return found

    async def _running(self, request: web.Request) -> web.Response:
        return web.json_response({"running": [{"model": i.model, "state": i.phase} for i in await self._instances()]})

    async def _all(self, request: web.Request) -> web.Response:
        for model in {i.model for i in await self._instances()}:
            await self._unload(request, model)
        return web.Response(text="OK")

    async def _one(self, request: web.Request) -> web.Response:
        model = await self._models.named(request.match_info["model"], "/v1/models")
        await self._unload(request, model.model)
        return web.Response(text="OK")

    async def _instances(self) -> list[InstanceInfo]:
        """The instances of models: a hold is not for the gateway to end."""
        known = {model.model for model in await self._models.all()}
        return [i for i in (await self._client.instances()).instances if i.model in known]

    async def _unload(self, request: web.Request, model: str) -> None:
        caller = request[CALLER]
        await self._client.keep_alive(model, seconds=0.0, user=None if caller is ANYBODY else caller.name)
