"""A client's first words may be there before its connection is: none of them is lost, on either loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop
from aiohttp import web
from gateway.test_network import FIRST
from waiting import turns, until

from lmxd.listening.certificate import Certificate
from lmxd.listening.connections import Connections
from lmxd.listening.listen import listen


async def greeted() -> bytes:
    """The first bytes of the answer to a client that connects and speaks while the loop does something else."""
    running = web.AppRunner(web.Application())
    await running.setup()
    connections = Connections(strangers=8, known=8)
    await listen(running, "door", "127.0.0.1:0", connections, tls=Certificate(FIRST, None).context)
    incoming, outgoing, context = ssl.MemoryBIO(), ssl.MemoryBIO(), ssl.create_default_context()
    client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    try:
        with socket.create_connection(running.addresses[0][:2]) as connection:
            connection.sendall(outgoing.read())
            connection.setblocking(False)
            return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(connection, 5), 30)
    finally:
        await running.cleanup()


@pytest.mark.parametrize("run", [pytest.param(asyncio.run, id="asyncio"), pytest.param(uvloop.run, id="uvloop")])
def test_the_first_words_of_tls_are_heard(run: Callable[[Coroutine[Any, Any, bytes]], bytes]) -> None:
    assert run(greeted())[:2] == b"\x16\x03", "a record of a handshake"


async def left_early() -> list[str]:
    """The complaints of the loop when clients speak and break off, each a step later than the one before."""
    said: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(str(context)))
    running = web.AppRunner(web.Application())
    await running.setup()
    connections = Connections(strangers=8, known=8)
    await listen(running, "door", "127.0.0.1:0", connections, tls=Certificate(FIRST, None).context)
    for steps in range(8):
        with socket.create_connection(running.addresses[0][:2]) as client:
            client.sendall(b"\x16\x03\x01 no hello")
            await turns(steps)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await until(lambda: len(connections) == 0)
    await running.cleanup()
    return said


@pytest.mark.parametrize("run", [pytest.param(asyncio.run, id="asyncio"), pytest.param(uvloop.run, id="uvloop")])
def test_those_that_break_off_before_they_are_heard_are_no_error(
    run: Callable[[Coroutine[Any, Any, list[str]]], list[str]],
) -> None:
    assert run(left_early()) == []


async def said_at_once(length: int) -> bytes:
    """The answer to a client whose request comes with the last words of its handshake: the length of its body."""

    async def measured(request: web.Request) -> web.Response:
        return web.Response(text=f"{len(await request.read())} bytes")

    app = web.Application(client_max_size=2 * length)
    app.router.add_post("/", measured)
    running = web.AppRunner(app)
    await running.setup()
    connections = Connections(strangers=8, known=8)
    await listen(running, "door", "127.0.0.1:0", connections, tls=Certificate(FIRST, None).context)
    incoming, outgoing, context = ssl.MemoryBIO(), ssl.MemoryBIO(), ssl.create_default_context(cafile=str(FIRST))
    client, loop = context.wrap_bio(incoming, outgoing, server_hostname="localhost"), asyncio.get_running_loop()
    found = b""
    try:
        with socket.create_connection(running.addresses[0][:2]) as connection:
            connection.setblocking(False)

            async def heard(ask: Callable[[], object]) -> object:
                while True:
                    with contextlib.suppress(ssl.SSLWantReadError):
                        return ask()
                    await loop.sock_sendall(connection, outgoing.read())
                    incoming.write(await asyncio.wait_for(loop.sock_recv(connection, 65536), 30))

            await heard(client.do_handshake)
            client.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % length)
            client.write(b"x" * length)
            await loop.sock_sendall(connection, outgoing.read())
            while not found.endswith(b" bytes"):
                found += bytes(await heard(lambda: client.read(65536)))  # type: ignore[call-overload]
    finally:
        await running.cleanup()
    return found.rpartition(b"\n")[2]


@pytest.mark.parametrize("run", [pytest.param(asyncio.run, id="asyncio"), pytest.param(uvloop.run, id="uvloop")])
def test_a_long_request_may_come_with_the_last_words_of_a_handshake(
    run: Callable[[Coroutine[Any, Any, bytes]], bytes],
) -> None:
    assert run(said_at_once(3_000_000)) == b"3000000 bytes"
