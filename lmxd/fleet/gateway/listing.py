"""The lists of models: all names of all nodes, in the forms of OpenAI's, Anthropic's and ollama's API."""

from __future__ import annotations

import hashlib
import time
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from lmxd import __version__
from lmxd.errors import LmxdError
from lmxd.fleet.gateway.known import FleetModel, FleetModels
from lmxd.fleet.names import LIST
from lmxd.gateway.http.paths import MODEL, routes
from lmxd.gateway.ollama.models import API
from lmxd.gateway.requests.failures import StatusError, is_anthropics

_CHANGES: Final = (("POST", "pull"), ("POST", "push"), ("POST", "copy"), ("POST", "create"), ("DELETE", "delete"))


class FleetLists:
    """The routes that the cards of all nodes answer."""

    def __init__(self, models: FleetModels) -> None:
        self._models = models
        self._begun = time.time()

    def routes(self) -> list[web.RouteDef]:
        return [
            *routes("GET", LIST, self._all),
            *routes("GET", f"{LIST}/{MODEL}", self._one),
            *routes("GET", "/api/tags", self._tags),
            *routes("GET", "/api/version", self._version),
            *(route for method, word in _CHANGES for route in routes(method, f"/api/{word}", self._change)),
            web.route("*", "/api/blobs/{digest}", self._blob),
        ]

    async def _all(self, request: web.Request) -> web.Response:
        shown = [self._shown(each) for each in self._models.listed().values()]
        if not is_anthropics(request.headers):
            return web.json_response({"object": "list", "data": shown})
        ends = {"first_id": shown[0]["id"] if shown else None, "last_id": shown[-1]["id"] if shown else None}
        return web.json_response({"data": [self._anthropics(x["id"]) for x in shown], "has_more": False, **ends})

    async def _one(self, request: web.Request) -> web.Response:
        name = request.match_info["model"]
        if (found := self._models.listed().get(name)) is None:
            raise LmxdError("unknown_model", f"no node that is there has a model {name!r}", f"{LIST} lists them")
        return web.json_response(self._anthropics(name) if is_anthropics(request.headers) else self._shown(found))

    async def _tags(self, _: web.Request) -> web.Response:
        return web.json_response({"models": [self._tag(each) for each in self._models.listed().values()]})

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": API, "lmxd": __version__})

    async def _change(self, _: web.Request) -> web.Response:
        what = "models are not changed through a fleet's gateway"
        raise StatusError(403, "not_permitted", what, "an administrator adds models at a node: lmxd pull, lmxd import")

    async def _blob(self, request: web.Request) -> web.Response:
        if request.method == "HEAD":
            raise LmxdError("unknown_id", "there is no such blob", "an administrator adds models at a node: lmxd pull")
        return await self._change(request)

    def _shown(self, found: FleetModel) -> dict[str, Any]:
        offered = found.offered
        meta = {
            "n_ctx": offered.ctx_most or offered.ctx,
            "slots": offered.slots,
            "bytes": offered.needs,
            "capabilities": offered.capabilities,
            "nodes": found.nodes,
        }
        parent = {} if found.name == offered.model else {"parent": offered.model}
        created = int(self._begun)
        return {"id": found.name, "object": "model", "created": created, "owned_by": "lmxd", **parent, "meta": meta}

    def _anthropics(self, name: str) -> dict[str, Any]:
        created = datetime.fromtimestamp(int(self._begun), UTC).isoformat()
        return {"type": "model", "id": name, "display_name": name, "created_at": created}

    def _tag(self, found: FleetModel) -> dict[str, Any]:
        offered = found.offered
        digest = offered.digest or hashlib.sha256(offered.model.encode()).hexdigest()
        return {
            "name": found.name,
            "model": found.name,
            "modified_at": datetime.fromtimestamp(self._begun, UTC).isoformat(),
            "size": sum(offered.needs.values()),
            "digest": digest,
            "details": {
                "parent_model": "" if found.name == offered.model else offered.model,
                "format": "",
                "family": "",
                "families": [],
                "parameter_size": "",
                "quantization_level": "",
            },
            "capabilities": offered.capabilities,
        }
