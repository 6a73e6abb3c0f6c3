"""The door of a lease as its holder sees it, whatever the node says of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from fleet_home import box
from pydantic import ValidationError

from lmxd.errors import LmxdError
from lmxd.fleet import tls
from lmxd.fleet.authority.certificates import Authority
from lmxd.fleet.calls import Direct
from lmxd.fleet.lease_door import LeaseDoor
from lmxd.fleet.members import MemberRole

SAID = {
    "node": "n1",
    "lease": "l1",
    "model": "m",
    "base_url": "https://127.0.0.1:1/lease/l1/v1",
    "api_key": "k",
    "ctx": 1,
    "slots": 1,
    "ttl": 30.0,
    "waited": 0.0,
}


@asynccontextmanager
async def door(directory: Path, body: bytes) -> AsyncIterator[LeaseDoor]:
    """One that always answers with that."""
    authority = Authority.new("home")
    node = box(authority, directory / "node", "n1", [MemberRole.NODE])
    holder = box(authority, directory / "holder", "o1", [MemberRole.OPERATOR])
    app = web.Application()

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body)

    app.router.add_route("*", "/lease/l1", answer)
    running = web.AppRunner(app)
    await running.setup()
    try:
        await web.TCPSite(running, "127.0.0.1", 0, ssl_context=tls.server_context(node, MemberRole.NODE)).start()
        url = f"https://127.0.0.1:{running.addresses[0][1]}/lease/l1/v1"
        lease = Direct.model_validate(SAID | {"base_url": url})
        yield LeaseDoor(lease, tls.nodes_context(holder, MemberRole.OPERATOR))
    finally:
        await running.cleanup()


@pytest.mark.parametrize("body", [b"", b"{}", b"[" * 10_000, b"x" * 2**20], ids=range(4))
async def test_an_answer_that_is_none_is_a_bad_answer(tmp_path: Path, body: bytes) -> None:
    """Who renews it goes on, for the lease lives as long as the node said."""
    async with door(tmp_path, body) as there:
        with pytest.raises(LmxdError) as raised:
            await there.renew()
    assert raised.value.code == "bad_answer"


@pytest.mark.parametrize("port", [0, 99999])
async def test_a_door_that_is_nowhere_does_not_answer(tmp_path: Path, port: int) -> None:
    holder = box(Authority.new("home"), tmp_path / "holder", "o1", [MemberRole.OPERATOR])
    lease = Direct.model_validate(SAID | {"base_url": f"https://127.0.0.1:{port}/lease/l1/v1"})
    with pytest.raises(LmxdError) as raised:
        await LeaseDoor(lease, tls.nodes_context(holder, MemberRole.OPERATOR)).release()
    assert raised.value.code == "daemon_unavailable"


@pytest.mark.parametrize(
    "lie",
    [
        *({"ttl": 0}, {"ttl": -1}, {"ttl": float("nan")}, {"ttl": float("inf")}),
        *({"base_url": "http://127.0.0.1:1/lease/l1/v1"}, {"api_key": "k\nX: y"}, {"lease": ""}),
    ],
    ids=str,
)
def test_a_lease_that_is_none_is_not_taken(lie: dict[str, Any]) -> None:
    """It would be renewed without a pause, or its key would go to all who listen."""
    with pytest.raises(ValidationError):
        Direct.model_validate(SAID | lie)


def test_a_lease_that_is_nowhere_is_a_bad_answer(tmp_path: Path) -> None:
    holder = box(Authority.new("home"), tmp_path / "holder", "o1", [MemberRole.OPERATOR])
    with pytest.raises(LmxdError, match="n1 does not say where lease l2 is"):
        LeaseDoor(Direct.model_validate(SAID | {"lease": "l2"}), tls.nodes_context(holder, MemberRole.OPERATOR))
