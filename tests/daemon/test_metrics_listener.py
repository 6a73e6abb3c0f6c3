"""The daemon's /metrics over HTTP: for this machine's scrapers, whatever others do to its port."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator

import aiohttp
import pytest

from lmxd.core.books.state import State
from lmxd.daemon.answering.metrics import Metrics


@contextlib.asynccontextmanager
async def served() -> AsyncIterator[int]:
    """The port of metrics of an empty house."""
    running = await Metrics(State()).serve("127.0.0.1:0")
    try:
        yield running.addresses[0][1]
    finally:
        await running.cleanup()


async def status(port: int, **headers: str) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/metrics", headers=headers) as answer,
    ):
        return answer.status


async def test_idle_and_half_sent_connections_keep_no_scraper_out() -> None:
    async with served() as port:
        with contextlib.ExitStack() as stack:
            for n in range(200):
                client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                client.sendall(b"GET /metrics HTTP/1.1\r\n" if n % 2 else b"")
                await asyncio.sleep(0)
            assert await status(port) == 200


async def test_a_connection_that_asks_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmxd.listening.connection.HEAD_TIMEOUT", 0.2)
    async with served() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metrics HTTP/1.1\r\nX:")
        assert await asyncio.wait_for(reader.read(), 20) == b""
        writer.close()


@pytest.mark.parametrize(
    "header", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}], ids=str
)
async def test_no_page_of_another_site_reads_them(header: dict[str, str]) -> None:
    async with served() as port:
        assert await status(port, **header) == 403


async def test_a_client_that_has_gone_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """``Expect: 100-continue`` and a reset wrote a traceback into the daemon's log, as often as anybody liked."""
    async with served() as port:
        for n in range(100):
            client = socket.create_connection(("127.0.0.1", port))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
            if n % 2:
                client.shutdown(socket.SHUT_WR)
            client.close()
        assert await status(port) == 200
    assert [r.getMessage() for r in caplog.records if r.name != "lmxd.listening.connections"] == []
