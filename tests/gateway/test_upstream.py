"""One request to an instance that answers before it has read all of it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from lmxd.gateway.http.kept_connections import KeptConnections
from lmxd.gateway.http.upstream import exchange
from lmxd.gateway.http.upstream_call import UpstreamCall
from lmxd.rpc.messages import Granted

TOO_LARGE = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig"
ROUNDS = 40


@contextlib.contextmanager
def refusing(path: Path) -> Iterator[None]:
    """An engine that reads a head, and of the body no more than came with it, says 413, and closes."""

    def serve() -> None:
        for _ in range(ROUNDS):
            client, _ = listening.accept()
            with client:
                seen = b""
                while b"\r\n\r\n" not in seen:
                    seen += client.recv(100)
                client.sendall(TOO_LARGE)

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(ROUNDS)
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        thread.join(5)


async def asked(path: Path, size: int) -> tuple[int, bytes]:
    """(the status, the body) of the answer to a body of ``size`` bytes."""
    url = "http://localhost"
    lease = Granted.model_construct(
        slots=1,
        devices={},
        basis="",
        hold="",
        waited=0.0,
        lease="l",
        instance="a#1",
        model="a",
        endpoint=url,
        base_url=url,
        api_key="x",
        socket=str(path),
        ctx=1,
    )
    found, body = await exchange(lease, UpstreamCall(path="/x", body=b"y" * size), KeptConnections()), bytearray()
    with contextlib.closing(found):
        head = await found.head()
        assert await found.body(body.extend)
        return head.status, bytes(body)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("size", [1000, 100_000, 8_000_000])
def test_a_refusal_comes_through_though_the_body_was_not_read(
    tmp_path: Path, loop: Callable[[], asyncio.AbstractEventLoop], size: int
) -> None:
    """The write that failed made it a 503."""
    with refusing(tmp_path / "s"), asyncio.Runner(loop_factory=loop) as runner:
        for _ in range(ROUNDS):
            assert runner.run(asked(tmp_path / "s", size)) == (413, b"big")
