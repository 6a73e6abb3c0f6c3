"""The connection of a lease: it serves one request after another, and ends with the lease or with the engine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lmxd.errors import LmxdError
from lmxd.gateway.http.kept_connections import KeptConnections
from lmxd.gateway.http.upstream import Unreachable, exchange
from lmxd.gateway.http.upstream_call import UpstreamCall
from lmxd.rpc.messages import Granted

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
IN_CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"


class Engine:
    """An engine that gives each request the same answer, and notes how many connections it had."""

    def __init__(self, path: Path, answer: bytes) -> None:
        self.path = path
        self.answer = answer
        self.requests: list[bytes] = []
        self.open: set[asyncio.StreamWriter] = set()
        self.connections = 0

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Engine]:
        server = await asyncio.start_unix_server(self._serve, self.path)
        async with server:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(self.answer)
        self.open.discard(writer)
        writer.close()

    def lease(self, name: str = "l") -> Granted:
        url = "http://localhost"
        return Granted(
            lease=name, instance="a#1", model="a", endpoint=url, base_url=url, api_key="x", socket=str(self.path),
            ctx=1, slots=1, devices={}, basis="declared", hold="connection", waited=0,
        )  # fmt: skip


GET = UpstreamCall(method="GET", path="/x")


async def asked(lease: Granted, kept: KeptConnections, call: UpstreamCall = GET) -> bytes:
    body = bytearray()
    with contextlib.closing(await exchange(lease, call, kept)) as found:
        await found.head()
        assert await found.body(body.extend)
    return bytes(body)


async def alone(engine: Engine) -> None:
    """Let the loop turn until the engine has no connection left."""
    async with asyncio.timeout(5):
        while engine.open:
            await asyncio.sleep(0)


@pytest.mark.parametrize("answer", [OK, IN_CHUNKS], ids=["length", "chunks"])
async def test_one_connection_serves_the_requests_of_a_lease(tmp_path: Path, answer: bytes) -> None:
    kept = KeptConnections()
    async with Engine(tmp_path / "s", answer).serving() as engine:
        for _ in range(3):
            assert b"ok" in await asked(engine.lease(), kept)
        assert (engine.connections, len(engine.requests)) == (1, 3)
        await asked(engine.lease("another"), kept)
        assert engine.connections == 2, "no lease has that of another"
        kept.close("l")
        kept.close("another")
        assert len(kept) == 0
        await alone(engine)


@pytest.mark.parametrize(
    "answer",
    [
        OK.replace(b"Content-Length", b"Connection: close\r\nContent-Length"),
        OK.replace(b"HTTP/1.1", b"HTTP/1.0"),
        OK.replace(b"200 OK", b"413 Too Large"),
        OK + b"HTTP/1.1 200 OK\r\n",
    ],
    ids=["said so", "old", "refused", "more than was asked for"],
)
async def test_one_that_may_not_be_used_again_is_closed(tmp_path: Path, answer: bytes) -> None:
    kept = KeptConnections()
    async with Engine(tmp_path / "s", answer).serving() as engine:
        assert await asked(engine.lease(), kept) == b"ok"
        assert len(kept) == 0
        await alone(engine)


async def test_an_engine_that_closes_or_speaks_unasked_is_asked_over_another(tmp_path: Path) -> None:
    kept = KeptConnections()
    async with Engine(tmp_path / "s", OK).serving() as engine:
        for end in (asyncio.StreamWriter.close, lambda writer: writer.write(OK)):
            await asked(engine.lease(), kept)
            (writer,) = engine.open
            before = engine.connections
            end(writer)
            await alone(engine)
            async with asyncio.timeout(5):
                while len(kept):
                    await asyncio.sleep(0)
            assert await asked(engine.lease(), kept) == b"ok"
            assert engine.connections == before + 1
            kept.close("l")
            await alone(engine)


class Hasty(Engine):
    """An engine that closes each connection after ``answers`` requests, and does not say so."""

    def __init__(self, path: Path, answers: int) -> None:
        super().__init__(path, OK)
        self._answers = answers

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            for _ in range(self._answers):
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(self.answer)
            if self._answers > 1:
                await reader.readuntil(b"\r\n\r\n")
        writer.close()


@pytest.mark.parametrize("answers", [1, 2])
async def test_one_that_the_engine_closes_just_then_is_no_error(tmp_path: Path, answers: int) -> None:
    kept = KeptConnections()
    async with Hasty(tmp_path / "s", answers).serving() as engine:
        for _ in range(6):
            assert await asked(engine.lease(), kept) == b"ok"
        assert (len(engine.requests), engine.connections) == (6, 6 // answers)
        kept.close("l")


async def test_an_engine_that_ends_with_a_request_is_an_error_for_that_alone(tmp_path: Path) -> None:
    """The request is perhaps the reason: no other instance is asked it."""
    kept = KeptConnections()
    async with Hasty(tmp_path / "s", 2).serving() as engine:
        for _ in range(2):
            await asked(engine.lease(), kept)
        engine.path.unlink()
        with pytest.raises(LmxdError, match="broke off") as ended:
            await asked(engine.lease(), kept)
        assert not isinstance(ended.value, Unreachable)


@pytest.mark.parametrize(("method", "body"), [("GET", b"GET /y HTTP/1.1\r\n\r\n"), ("HEAD", b""), ("DELETE", b"x")])
async def test_no_other_request_follows_one_that_an_engine_may_read_as_two(
    tmp_path: Path, method: str, body: bytes
) -> None:
    kept = KeptConnections()
    async with Engine(tmp_path / "s", OK).serving() as engine:
        await asked(engine.lease(), kept, UpstreamCall(method=method, path="/x", body=body))
        assert len(kept) == 0
        assert await asked(engine.lease(), kept) == b"ok"
        assert engine.connections == 2
        assert b"Connection: close" in engine.requests[0]
        kept.close("l")
