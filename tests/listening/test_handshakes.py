"""TLS of a listener, on both kinds of loops."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop
from aiohttp import web
from fleet_broker import free_port
from fleet_home import box

from lmxd.fleet.authority.certificates import Authority
from lmxd.fleet.members import MemberRole
from lmxd.listening.connections import Connections
from lmxd.listening.listen import listen

CLIENTS = 40


def asked(port: int, patience: float) -> bytes:
    """The answer to one request by TLS from another thread, whose first words follow at once on the connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), patience) as plain, context.wrap_socket(plain) as secure:
        secure.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        return secure.recv(4096)


async def answers(home: Path, port: int) -> list[bytes]:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(home / "node/cert.pem", home / "node/key.pem")

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text="here")

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await listen(runner, "test", f"127.0.0.1:{port}", Connections(strangers=8, known=8), tls=server)
        return [await asyncio.to_thread(asked, port, 5) for _ in range(CLIENTS)]
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_every_handshake_comes_to_its_end(loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path) -> None:
    """However soon its first words come: uvloop may read them before TLS is in place."""
    box(Authority.new("home"), tmp_path, "n1", [MemberRole.NODE])
    with asyncio.Runner(loop_factory=loop) as runner:
        found = runner.run(answers(tmp_path, free_port()))
    assert [x.endswith(b"here") for x in found] == [True] * CLIENTS
