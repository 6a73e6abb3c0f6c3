"""A client's first words may be there before its connection is: none of them is lost, on either loop."""

from __future__ import annotations

import asyncio
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
