"""The real dashboard over a daemon that is played: states that no test machine is in, such as thirty instances."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from aiohttp import web
from aiohttp.typedefs import Handler

from lmxd.config.keys import Caller
from lmxd.gateway.board.board import Board
from lmxd.gateway.http.upstream_call import UpstreamCall
from lmxd.gateway.leasing.leases import LeaseWish
from lmxd.gateway.leasing.models import KnownModels
from lmxd.gateway.metrics import GatewayMetrics
from lmxd.gateway.recent import RecentRequests
from lmxd.gateway.requests.authentication import CALLER
from lmxd.gateway.requests.bodies import Bodies
from lmxd.rpc.books import Device, Devices, FitInfo, InstanceInfo, LeaseInfo, ModelInfo, Models, Status, TicketInfo
from lmxd.rpc.client import AsyncClient
from lmxd.rpc.overview import Overview
from lmxd.rpc.owners import OwnerInfo, ProcessInfo, Why
from lmxd.rpc.shortfalls import ShortfallInfo, TurnInfo

GIB = 2**30
ROOT = Caller("root", admin=True)
HOSTILE = "<img src=x onerror=alert(1)>"
"""A name from outside, which is to be shown and not to be obeyed."""


@dataclass
class PlayedDaemon:
    """Answers as a daemon in one state does; ``looks`` counts how often it was asked to measure."""

    overviewed: Overview
    listed: list[ModelInfo] = field(default_factory=list)
    looks: int = 0

    async def overview(self) -> Overview:
        self.looks += 1
        return self.overviewed

    async def devices(self) -> Devices:
        self.looks += 1
        return Devices(devices=[why.device for why in self.overviewed.owners])

    async def models(self) -> Models:
        return Models(models=self.listed)

    async def stop(self) -> None:
        raise AssertionError("nobody presses it")

    pin = yield_ = unyield = stop


@dataclass
class Played:
    """The board at its address."""

    url: str
    board: Board
    recent: RecentRequests


@asynccontextmanager
async def played(
    daemon: PlayedDaemon, caller: Caller = ROOT, *, prompts: bool = False, past: int = -1, step: int = 10
) -> AsyncIterator[Played]:
    """``past``: seconds of history, with a sample every ``step``."""
    client, recent = cast(AsyncClient, daemon), RecentRequests(prompts=prompts)
    board = Board(client, KnownModels(client), Bodies(each=2**20, together=2**20), recent)

    now = time.time()
    for before in range(past, -1, -step):
        board.timeline.note(now - before, [card(n, 30 * GIB, 2 * GIB) for n in (0, 1)])

    @web.middleware
    async def known(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[CALLER] = caller
        return await handler(request)

    app = web.Application(middlewares=[known])
    app.add_routes(board.routes())
    app.cleanup_ctx.append(board.run)
    app.on_shutdown.append(board.end)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield Played(f"http://127.0.0.1:{runner.addresses[0][1]}", board, recent)
    finally:
        await runner.cleanup()


def request(recent: RecentRequests, model: str = "m0", key: str = "root", body: bytes = b"", status: int = 200) -> None:
    """One that is over."""
    wish, call = LeaseWish(model=model, user=key), UpstreamCall(path="/v1/chat/completions", body=body)
    with recent.noted(wish, call) as note, GatewayMetrics().serving() as served:
        note.served, served.model, served.status = served, model, status
        served.leased()


def card(number: int, own: int, foreign: int = 0, **more: Any) -> Device:
    whole = {"capacity": 80 * GIB, "margin": 2 * GIB, "reserved": 0, "limit": None, "reclaiming": 0}
    left = 78 * GIB - own - foreign
    figures: dict[str, Any] = whole | {"used": own + foreign, "charged": own, "foreign": foreign, "headroom": left}
    return Device(
        id=f"GPU-{number}a1f3c52-77aa", ref=str(number), kind="gpu", name="A card of 80 GiB", **figures | more
    )


def overview(owners: list[Why], instances: list[InstanceInfo], queue: list[TicketInfo], **more: Any) -> Overview:
    status = Status(
        version="1.2.3", uptime=5000, engine="llama.cpp", admission=True, draining=False,
        devices=[why.device for why in owners], instances=len(instances), leases=0, waiting=len(queue), queue_depth=512,
        **more,
    )  # fmt: skip
    return Overview(status=status, owners=owners, instances=instances, queue=queue)


def model(number: int, **more: Any) -> ModelInfo:
    figures: dict[str, Any] = {"bytes": {"GPU-0a1f3c52-77aa": (2 + number) * GIB}, "fit": FitInfo(when="now")}
    return ModelInfo(model=f"m{number}", ctx=8192, slots=4, running=0, **figures | more)


def empty() -> PlayedDaemon:
    """A machine on which nobody has configured anything."""
    return PlayedDaemon(overview([Why(device=card(0, 0), instances=[], processes=[], withheld=0)], [], []))


def busy(instances: int = 30, waiting: int = 50, models: int = 12) -> PlayedDaemon:
    """Two cards full of instances, of twelve models, and many who wait."""
    made = [_instance(n, models) for n in range(instances)]
    owners = [_owner(number, [i for n, i in enumerate(made) if n % 2 == number]) for number in (0, 1)]
    fits = [
        FitInfo(when="after", ends=["m1#1", "m2#2"]),
        FitInfo(when="never"),
        FitInfo(when="blocked"),
        FitInfo(when="now"),
    ]
    listed = [model(n, fit=fits[n % 4], aliases=["gpt-4o-mini"] if n % 3 == 0 else []) for n in range(models + 4)]
    return PlayedDaemon(
        overview(owners, made, [_ticket(n + 1) for n in range(waiting)], warnings=[f"mind this: {HOSTILE}"]), listed
    )


def _instance(number: int, models: int) -> InstanceInfo:
    lease = LeaseInfo(bytes=GIB, slots=1, lease=f"l-{number}", uid=0, user=HOSTILE if number == 0 else f"user{number}")
    return InstanceInfo(
        instance=f"m{number % models}#{number}", model=f"m{number % models}", phase="ready", ctx=8192, slots=4,
        busy=True, processing=number % 3, speed=21.5, idle=4, idle_timeout=300, age=60, promised={}, leases=[lease],
        charged={"GPU-0a1f3c52-77aa": 3 * GIB},
    )  # fmt: skip


def _owner(number: int, mine: list[InstanceInfo]) -> Why:
    owned = [OwnerInfo(instance=i.instance, bytes=3 * GIB, promised=3 * GIB, measured=0, exited=False) for i in mine]
    foreign = [ProcessInfo(pid=n, name=HOSTILE[:15], bytes=GIB // 4) for n in range(8)]
    device = card(number, 3 * GIB * len(mine), 2 * GIB)
    return Why(device=device, instances=owned, processes=foreign, withheld=0)


def _ticket(position: int) -> TicketInfo:
    called = {f"GPU-{n}a1f3c52-77aa": f"GPU {n}" for n in (0, 1)}
    lacking = [
        ShortfallInfo(device=device, need=40 * GIB, have=3 * GIB, ceiling=78 * GIB, capacity=80 * GIB, called=called)
        for device in called
    ]
    return TicketInfo(
        ticket=f"t-{position}", model=f"m{position % 12}", uid=0, user=f"agent-{position}", bytes=40 * GIB,
        position=position, waited=3 * position, eta=None if position > 20 else 12.0 * position, shortfalls=lacking,
        waits_for=["m1#1", "m2#2", "m3#3", "m4#4"], turns=[TurnInfo(instance="m1#1", closes_in=4, price=3)],
    )  # fmt: skip
