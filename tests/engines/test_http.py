"""Answers of an engine that is not to be trusted: nothing is followed, unpacked or read without a bound."""

from __future__ import annotations

import gzip

import pytest
from engines.canned import engine

from lmxd.engines.http import get
from lmxd.engines.llama_cpp import server as llama_server
from lmxd.engines.llama_cpp.server import LlamaServer

ENOUGH = 2**20


async def test_it_sends_nobody_elsewhere() -> None:
    asked: list[bytes] = []
    async with engine(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", asked) as elsewhere:
        moved = f"HTTP/1.1 302 Found\r\nLocation: {elsewhere.url}/health\r\nContent-Length: 0\r\n\r\n"
        async with engine(moved.encode()) as here:
            assert (await get(here, "/health"))[0] == 302
    assert asked == []


async def test_it_fills_no_memory() -> None:
    endless = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 8 * ENOUGH
    async with engine(endless) as here:
        status, text = await get(here, "/metrics")
    assert (status, len(text)) == (200, ENOUGH)


async def test_what_is_packed_stays_packed() -> None:
    bomb = gzip.compress(bytes(64 * ENOUGH))
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n"
    async with engine(head.encode() + bomb) as here:
        assert len((await get(here, "/metrics"))[1]) <= len(bomb)


async def test_what_is_no_text_is_no_fault_of_ours() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=nonsense\r\nContent-Length: 2\r\n\r\n"
    async with engine(head + b"\xff\xfe") as here:
        assert await get(here, "/metrics") == (200, "\ufffd\ufffd")


@pytest.mark.parametrize(
    ("figures", "processing"),
    [
        ("requests_processing 2\nllamacpp:n_decode_total 1.5e+06\nllamacpp:other -inf", 2),
        ("requests_processing 1e308", None),
        ("requests_processing 2000000", None),
        ("requests_processing -1", None),
        ("requests_processing nan", None),
        ("requests_processing 1.2.3", None),
        ("requests_processing \u0661", None),
        ("requests_processing 1\nllamacpp:n_decode_total 1e999", None),
        ("requests_processing 1\nllamacpp:n_decode_total -5", None),
        ("requests_processing 1\nllamacpp:requests_deferred inf", None),
    ],
)
async def test_figures_that_cannot_be_true_are_no_activity(
    figures: str, processing: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing infinite comes of them, and the log has one line for all times that it is asked."""
    body = f"llamacpp:{figures}\n".encode()
    llama = LlamaServer(None)
    async with engine(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)) as here:
        for _ in range(3):
            seen = await llama.activity(here)
            assert (seen.processing if seen else None) == processing
    own = [record for record in caplog.records if record.name == llama_server.__name__]
    assert len(own) == (processing is None)
