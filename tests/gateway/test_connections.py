"""Everybody on the machine can connect: nobody keeps a connection by doing nothing, and nobody keeps others out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.front import Front, opened
from gateway.test_serving import house
from lmxd.gateway.app import runner
from lmxd.listening.connections import Closable, Connections
from lmxd.listening.listen import listen

HALF_HEADS = [
    b"",
    b"G",
    b"GET / HTTP/1.1\r\n",
    b"GET / HTTP/1.1\r\nX: y\r\n",
    b"POST /v1/completions HTTP/1.1\r\nHost:",
]


@contextlib.contextmanager
def connected(front: Front, count: int, said: bytes) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", front.port)))
            client.setblocking(False)
            client.sendall(said)
            found.append(client)
        yield found


async def ended(client: socket.socket) -> bytes:
    """All that it is still told, once it has been closed."""
    told, receive = b"", asyncio.get_running_loop().sock_recv
    with contextlib.suppress(ConnectionError):
        while data := await asyncio.wait_for(receive(client, 65536), 20):
            told += data
    return told


@contextlib.asynccontextmanager
async def crowded(tmp_path: Path) -> AsyncIterator[Front]:
    """A gateway with room for few connections."""
    here = house(tmp_path)
    async with here.open():
        front = Front(here)
        front.connections = Connections(strangers=64, known=32)
        async with front.open():
            yield front


@pytest.mark.parametrize("said", HALF_HEADS, ids=ascii)
async def test_a_head_that_does_not_come_to_its_end_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr("lmxd.listening.connection.HEAD_TIMEOUT", 0.3)
    async with opened(house(tmp_path)) as front:
        with connected(front, 5, said) as clients:
            for client in clients:
                assert await ended(client) == b""
        await front.until(lambda: len(front.connections) == 0)


async def test_a_head_that_comes_byte_by_byte_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmxd.listening.connection.HEAD_TIMEOUT", 0.3)
    async with opened(house(tmp_path)) as front:
        with connected(front, 1, b"GET / HTTP/1.1\r\nX: ") as [client]:
            over = asyncio.create_task(ended(client))

            def is_over() -> bool:
                with contextlib.suppress(OSError):
                    client.send(b"y")
                return over.done()

            await front.until(is_over)
            assert over.result() == b""


async def test_a_connection_that_was_answered_is_not_kept_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmxd.listening.connection.HEAD_TIMEOUT", 0.3)
    async with opened(house(tmp_path)) as front:
        ask = f"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {front.key}\r\n\r\n"
        for rest in (b"", b"GET /v1/mod"):
            with connected(front, 1, ask.encode() + rest) as [client]:
                assert (await ended(client)).startswith(b"HTTP/1.1 200 OK")


async def test_a_head_has_an_end(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        for said in (b"GET /" + b"x" * 40_000, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 8000):
            with connected(front, 1, said) as [client]:
                assert b"200" not in await ended(client)


@pytest.mark.parametrize("head", ["Content-Length: 1000000", "Transfer-Encoding: chunked"], ids=["length", "chunks"])
async def test_a_body_that_does_not_come_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str
) -> None:
    monkeypatch.setattr("lmxd.gateway.requests.bodies.GRACE", 0.3)
    monkeypatch.setattr("lmxd.listening.connection.LINGER", 0.1)
    async with opened(house(tmp_path)) as front:
        ask = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {front.key}\r\n{head}\r\n\r\n5\r\nab"
        with connected(front, 1, ask.encode()) as [client]:
            told = await ended(client)
            assert told.startswith(b"HTTP/1.1 400 ")
            assert b"too slowly" in told
        await front.until(lambda: len(front.connections) == 0)


def refused(front: Front, body: int) -> bytes:
    """A request whose body is too long, sent to its end by a client that reads only then: its answer."""
    with socket.create_connection(("127.0.0.1", front.port), timeout=20) as client:
        client.sendall(
            f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {front.key}\r\n"
            f"Content-Length: {body}\r\n\r\n".encode()
        )
        assert client.recv(1, socket.MSG_PEEK) == b"H"
        client.sendall(b"x" * body)
        client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        told = b""
        while data := client.recv(65536):
            told += data
        return told


async def test_a_client_that_still_sends_what_is_not_wanted_reads_its_answer(tmp_path: Path) -> None:
    async with opened(house(tmp_path), max_body_mb=1) as front:
        told = await asyncio.to_thread(refused, front, 3 * 2**20)
        assert told.startswith(b"HTTP/1.1 4")
        assert b"HTTP/1.1 200 OK" in told, "its next request is answered, too"


async def test_a_request_that_was_sent_behind_another_may_have_a_body(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        key, body = f"Authorization: Bearer {front.key}\r\n", b'{"model": "a"' + b" " * 100_000 + b"}"
        both = f"GET /v1/models HTTP/1.1\r\nHost: x\r\n{key}\r\nPOST /v1/completions HTTP/1.1\r\nHost: x\r\n{key}"
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
        writer.write(f"{both}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        assert (await asyncio.wait_for(reader.readline(), 20)).startswith(b"HTTP/1.1 200")
        for at in range(0, len(body), 10_000):
            writer.write(body[at : at + 10_000])
            await writer.drain()
        assert (await asyncio.wait_for(reader.read(), 20)).count(b"HTTP/1.1 200") == 1
        writer.close()


async def test_the_head_of_a_second_request_has_an_end_too(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        with connected(front, 1, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n") as [client]:
            loop = asyncio.get_running_loop()
            assert (await loop.sock_recv(client, 15)) == b"HTTP/1.1 200 OK"
            with contextlib.suppress(ConnectionError):
                await loop.sock_sendall(client, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 8000)
            assert b"HTTP/1.1 200" not in await ended(client)


async def test_any_number_of_idle_connections_keeps_nobody_out(tmp_path: Path) -> None:
    async with crowded(tmp_path) as front:
        with contextlib.ExitStack() as stack:
            for said in HALF_HEADS:
                stack.enter_context(connected(front, 40, said))
                assert (await front.ask("/health", method="GET", Authorization="")).status == 200
                assert (await front.chat("a")).status == 200
                await front.until(lambda: front.connections.strangers <= 64)


async def test_a_stranger_that_reads_nothing_keeps_nobody_out(tmp_path: Path) -> None:
    async with crowded(tmp_path) as front:
        with connected(front, 100, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200):
            assert (await front.chat("a")).status == 200


async def test_one_keys_requests_keep_no_other_key_out(tmp_path: Path) -> None:
    """And its own are told that they are too many."""
    async with crowded(tmp_path) as front:
        ask = f"GET /lmxd/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {front.key}\r\n\r\n".encode()
        with connected(front, 40, ask) as clients:
            answers = await asyncio.gather(*(asyncio.get_running_loop().sock_recv(c, 15) for c in clients))
            assert answers.count(b"HTTP/1.1 200 OK") == 16
            assert answers.count(b"HTTP/1.1 429 To") == 24
            known = await front.ask("/v1/models", method="GET", Authorization=f"Bearer {front.admin}")
            assert known.status == 200


CONNECT = """
import os, socket, sys
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
client.sendall(b"GET /health HTTP/1.0\\r\\n\\r\\n")
os.write(1, client.recv(15))
"""


@pytest.mark.parametrize("uid", [os.getuid(), 2**31 + 1, 2**32 - 3])
async def test_a_unix_socket_knows_its_clients_by_their_uid(tmp_path: Path, uid: int) -> None:
    if uid != os.getuid() != 0:
        pytest.skip("only root can be other users")
    seen: list[object] = []

    class Noting(Connections):
        """Notes whose connections come."""

        def admit(self, connection: Closable) -> None:
            seen.append(connection.client)
            super().admit(connection)

    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o711)
        async with opened(house(tmp_path)) as front:
            running = runner(front.config, front.leases, front.authentication, front.pulls)
            await running.setup()
            await listen(running, "gateway.listen", f"unix:{name}/s", Noting(strangers=4, known=4), mode=0o666)
            client = await asyncio.create_subprocess_exec(
                "/usr/bin/env", "python3", "-c", CONNECT, f"{name}/s", user=uid, stdout=asyncio.subprocess.PIPE
            )
            assert (await client.communicate())[0] == b"HTTP/1.0 200 OK"
            await running.cleanup()
    assert seen == [uid]


async def test_a_stranger_is_answered_once(tmp_path: Path) -> None:
    """Each of its connections could ask without end, and many requests at once."""
    async with opened(house(tmp_path)) as front:
        for path in ("/health", "/v1/models"):
            ask = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n"
            with connected(front, 1, f"{ask}\r\n".encode() * 50) as [stranger]:
                told = await ended(stranger)
            assert told.count(b"HTTP/1.1 ") == 1
            assert b"\r\nConnection: close\r\n" in told
            key = f"Authorization: Bearer {front.key}\r\n"
            last = f"{ask}{key}Connection: close\r\n\r\n"
            with connected(front, 1, (f"{ask}{key}\r\n" + last).encode()) as [known]:
                assert (await ended(known)).count(b"HTTP/1.1 200 OK") == (2 if path == "/v1/models" else 1)
