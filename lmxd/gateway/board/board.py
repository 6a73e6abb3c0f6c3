"""The dashboard: one page, its content as server-sent events, and the actions of administrators."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from aiohttp import web

from lmxd import plain_json
from lmxd.errors import LmxdError
from lmxd.gateway.answers.reply import sent
from lmxd.gateway.board.snapshot import for_all, snapshot
from lmxd.gateway.board.timeline import STEP, Timeline
from lmxd.gateway.board.web_page import WebPage
from lmxd.gateway.leasing.models import KnownModels
from lmxd.gateway.recent import RecentRequests
from lmxd.gateway.requests.authentication import CALLER
from lmxd.gateway.requests.bodies import Bodies
from lmxd.gateway.requests.wanted import decode_object
from lmxd.pausing import pause
from lmxd.rpc.books import Device
from lmxd.rpc.client import AsyncClient
from lmxd.rpc.messages import Result
from lmxd.rpc.methods import METHODS

log = logging.getLogger("lmxd.gateway.audit")
ACTIONS: Final = "/lmxd/"
"""The beginning of the paths of the dashboard's data and actions."""
EVENT_STREAM: Final = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""Headers of a stream of events."""
_LIVE: Final = 1.0
"""Seconds between two looks while somebody watches."""


class Board:
    """The dashboard: its page, its stream of events, and its actions."""

    def __init__(self, client: AsyncClient, models: KnownModels, bodies: Bodies, recent: RecentRequests) -> None:
        self._client = client
        self._models = models
        self._bodies = bodies
        self._recent = recent
        self._actions: Mapping[str, Callable[..., Awaitable[Result]]] = {
            "stop": client.stop,
            "pin": client.pin,
            "yield": client.yield_,
            "unyield": client.unyield,
        }
        """The daemon's methods that administrators may call here."""
        self.timeline = Timeline()
        self._now: dict[str, Any] = {}
        self._seen: Sequence[Device] = ()
        """The devices as the last look saw them."""
        self._moved = asyncio.Event()
        self._watched = asyncio.Event()
        self._watching = 0
        self._ending = False
        self._page = WebPage()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self._show),
            web.get("/lmxd/events", self._events),
            web.get("/lmxd/state", self._state),
            web.post("/lmxd/{action}", self._act),
        ]

    async def run(self, app: web.Application) -> AsyncIterator[None]:
        """Looks as long as the application runs; often while somebody watches, else for the timeline alone."""
        task = asyncio.create_task(self._look_on())
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def end(self, app: web.Application) -> None:
        """End the streams of those who watch: the server would wait for them."""
        self._ending = True
        self._moved.set()

    async def _look_on(self) -> None:
        sampled = float("-inf")
        while True:
            due = time.monotonic() - sampled >= STEP
            try:
                if self._watching:
                    self._now = await self._look()
                if due:
                    sampled = time.monotonic()
                    devices = self._seen if self._watching else (await self._client.devices()).devices
                    self._now = self._now | {"sample": self.timeline.note(time.time(), devices)}
            except LmxdError as error:
                self._now = {"error": str(error)}
            except Exception as error:  # it must go on looking
                log.exception("a look failed")
                self._now = {"error": f"{type(error).__name__}: {error}"}
            self._moved.set()
            self._moved = asyncio.Event()
            if self._watching:
                await asyncio.sleep(_LIVE)
                continue
            self._watched.clear()
            await pause(self._watched, STEP)

    async def _look(self) -> dict[str, Any]:
        """One call, for which the devices are measured once, and the list of models that all requests share."""
        found = await self._client.overview()
        self._seen = found.status.devices
        return snapshot(found, await self._models.all(), time.time())

    async def _show(self, request: web.Request) -> web.Response:
        return web.Response(body=self._page.body.encode(), headers=self._page.headers)

    async def _state(self, request: web.Request) -> web.Response:
        now = self._for(request, await self._look()) | {"requests": self._recent.seen_by(request[CALLER])}
        return web.json_response(now, dumps=plain_json.encode)

    def _for(self, request: web.Request, now: dict[str, Any]) -> dict[str, Any]:
        caller = request[CALLER]
        if "devices" in now and not caller.admin:
            now = for_all(now)
        return now | {"caller": caller.name, "admin": caller.admin, "prompts": self._recent.prompts}

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """``timeline`` once, then ``state`` at every look, and ``requests`` when there were any."""
        stream = web.StreamResponse(headers=EVENT_STREAM)
        await stream.prepare(request)
        self._watching += 1
        try:
            await sent(stream, framed("timeline", self.timeline.samples))
            moved, told = self._moved, -1
            self._watched.set()
            while await moved.wait() and not self._ending:
                moved = self._moved
                await sent(stream, framed("state", self._for(request, self._now)))
                if told != self._recent.count:
                    told = self._recent.count
                    await sent(stream, framed("requests", self._recent.seen_by(request[CALLER])))
        finally:
            self._watching -= 1
        return stream

    async def _act(self, request: web.Request) -> web.Response:
        """An administrator's. LmxdError ``not_permitted`` for others, and where the gateway itself is none."""
        name, caller = request.match_info["action"], request[CALLER]
        if name not in self._actions:
            raise LmxdError("invalid_params", f"there is no action {name!r}", f"known: {', '.join(self._actions)}")
        if not caller.admin:
            remedy = "an administrator makes one that is: lmxd key NAME --admin"
            raise LmxdError("not_permitted", f"the key of {caller.name} is no administrator's", remedy)
        said = decode_object(await self._bodies.read(request))
        params = {key: said.get(key) for key in METHODS[name].params.model_fields}  # None is as if left out
        done = await self._actions[name](**params)
        log.info("key %s done: %s %s", caller.name, name, params)
        return web.json_response(done.model_dump(mode="json"))


def framed(name: str, data: object) -> bytes:
    return f"event: {name}\ndata: {plain_json.encode(data)}\n\n".encode()
