"""A sign of life: what a gateway asks the door of a node that has a request of its and says nothing."""

from __future__ import annotations

from aiohttp import web

from lmxd.fleet import clock
from lmxd.fleet.names import ALIVE
from lmxd.rpc.client import AsyncClient


class SignOfLife:
    """Answers when lmxd does, with the time by the clock that heartbeats have: a gateway sees how late these come."""

    def __init__(self, lmxd: AsyncClient) -> None:
        self._lmxd = lmxd

    def routes(self) -> list[web.RouteDef]:
        return [web.get(ALIVE, self._answer)]

    async def _answer(self, _: web.Request) -> web.Response:
        await self._lmxd.status()
        return web.json_response({"now": clock.now()})
