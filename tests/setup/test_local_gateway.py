"""The gateway as programs on this machine reach it, wherever it listens."""

from __future__ import annotations

import asyncio
import http.server
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from gateway.front import opened
from gateway.test_network import FIRST
from gateway.test_serving import house

from lmxd.config.gateway import GatewayConfig
from lmxd.listening.certificate import Certificate
from lmxd.listening.listen import listen
from lmxd.setup.local_gateway import LocalGateway


def configured(listen: str, tls_cert: Path | None = None) -> GatewayConfig:
    return GatewayConfig(listen=listen, tls_cert=tls_cert, keys_file=Path("/k"))


@contextmanager
def another_server() -> Iterator[int]:
    """The port of a server that says of all paths that they are well, and is no gateway."""

    class Well(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"status": "ok"}')

    with socketserver.TCPServer(("127.0.0.1", 0), Well) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("listens", "url"),
    [
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("0.0.0.0:8080", "http://127.0.0.1:8080"),
        ("[::]:8080", "http://[::1]:8080"),
        ("192.168.1.5:80", "http://192.168.1.5:80"),
        ("unix:/run/x", "unix:/run/x"),
    ],
)
def test_its_address_is_one_of_this_machine(listens: str, url: str) -> None:
    assert LocalGateway(configured(listens)).url == url
    if not listens.startswith("unix:"):
        assert LocalGateway(configured(listens, FIRST)).url == url.replace("http:", "https:")


async def test_it_answers_by_tcp_and_by_a_socket_and_knows_its_keys(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        path = f"unix:{front.house.where.socket.with_name('http')}"
        await listen(front.running, "gateway.listen", path, front.connections)
        for place in (f"0.0.0.0:{front.port}", path):
            found = LocalGateway(configured(place))
            assert await asyncio.to_thread(found.answers)
            assert await asyncio.to_thread(found.answers, front.key)
            assert not await asyncio.to_thread(found.answers, "lmxd-another")


async def test_it_answers_by_tls_whatever_name_its_certificate_has(tmp_path: Path) -> None:
    async with opened(house(tmp_path), tls=Certificate(FIRST, None).context) as front:
        at = f"127.0.0.1:{front.port}"
        assert await asyncio.to_thread(LocalGateway(configured(at, FIRST)).answers)
        assert not await asyncio.to_thread(LocalGateway(configured(at)).answers)


def test_another_server_and_nobody_are_no_gateway() -> None:
    with another_server() as port:
        assert not LocalGateway(configured(f"127.0.0.1:{port}")).answers()
    assert not LocalGateway(configured(f"127.0.0.1:{port}")).answers()
