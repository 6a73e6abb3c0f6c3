"""The gateway's log under attack: one line for each thing, none forged, none without end."""

from __future__ import annotations

import json
import logging
import re
import socket
from pathlib import Path

import pytest
from gateway_process import Gateway
from house import fake_engine, model
from lmxd_process import Lmxd
from waiting import wait_until

from gateway.front import opened
from gateway.test_serving import house
from lmxd.log_lines import LineFormatter
from lmxd.throttle import MOST

FORGED = b"%0a2026-01-01%20ERROR%20lmxd:%20forged%0d%1b[2J%C2%85%E2%80%A8%E2%80%AE"
ATTACKS = {
    b"GET /" + FORGED + b" HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \xff\xfe\r\n\r\n": 401,
    b"POST /lmxd/stop" + FORGED + b" HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: \x80\r\nContent-Length: 0\r\n\r\n": 401,
    b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: \xff\xc3\x28\r\n\r\n": 401,
    b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n": 400,
    b"GET /\x01\r ERROR forged\n HTTP/1.1\r\n\r\n": 400,
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n": 400,
    b"GET http://[/ HTTP/1.1\r\nHost: x\r\n\r\n": 400,
    b"GET / HTTP/9.9\r\n\r\n": 400,
    b"\x16\x03\x01\x00\xa5\x01\r\n\r\n": 400,
}


def status(port: int, request: bytes) -> int:
    """The status of the answer to the bytes of a request."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(request)
        return int(client.recv(64).split()[1])


def test_what_a_stranger_sends_is_a_line_of_the_log_and_never_two(tmp_path: Path) -> None:
    config = {"gpu": {"device": "host"}, "engine": {"path": str(fake_engine(tmp_path))}}
    with Lmxd(tmp_path, config) as lmxd, Gateway(lmxd) as gateway:
        for request, expected in ATTACKS.items():
            assert status(gateway.port, request) == expected, request
        wait_until(lambda: "GET /v1/models: a key is needed" in gateway.log.read_text())
        for _ in range(3 * MOST):
            status(gateway.port, b"GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            status(gateway.port, b"GET / HTTP/9.9\r\n\r\n")
    log = gateway.log.read_bytes().decode()
    lines = log.split("\n")
    assert lines.pop() == ""
    assert all(line.isprintable() and re.match(r"20\d\d-\d\d-\d\d \S+ [A-Z]+ [\w.]+: \S", line) for line in lines), log
    assert "Traceback" not in log
    assert "127.0.0.1 without a key refused (not_permitted): GET /\\n2026-01-01 ERROR lmxd: forged\\r\\x1b[2J" in log
    assert len(lines) < 2 * MOST + 10
    assert re.search(r"127\.0\.0\.1: \d\d more in a minute are not listed\n", log), "at its end, too"


def test_many_addresses_without_a_key_have_one_bound(tmp_path: Path) -> None:
    """127.0.0.0/8 is anybody's, and each address of it had lines of its own, with paths of 4 KiB."""
    config = {"gpu": {"device": "host"}, "engine": {"path": str(fake_engine(tmp_path))}}
    ask = f"GET /v1/models/{'A' * 7000} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    with Lmxd(tmp_path, config) as lmxd, Gateway(lmxd) as gateway:
        for n in range(4 * MOST):
            with socket.create_connection(
                ("127.0.0.1", gateway.port), timeout=20, source_address=(f"127.9.{n}.1", 0)
            ) as client:
                client.sendall(ask)
                assert client.recv(64).startswith(b"HTTP/1.1 401")
    lines = gateway.log.read_text().splitlines()
    assert sum("a key is needed" in line for line in lines) == MOST
    assert max(map(len, lines)) < 500


async def test_an_act_on_the_dashboard_has_a_line_with_whose_key_and_what_came_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lmxd.gateway.audit")
    async with opened(house(tmp_path)) as front:
        await front.chat("a")
        chief = {"Authorization": f"Bearer {front.admin}"}
        assert (await front.ask("/lmxd/stop", {"instance": "a#1\nforged"}, **chief)).status == 404
        assert (await front.ask("/lmxd/stop", {"instance": "a#1"})).status == 403
        assert (await front.ask("/lmxd/stop", {"instance": "a#1"}, **chief)).status == 200
    form = LineFormatter("%(message)s")
    said = [form.format(r) for r in caplog.records if r.name == "lmxd.gateway.audit"]
    assert all(line.isprintable() for line in said)
    assert said[0].startswith("key root refused (unknown_instance): POST /lmxd/stop: there is no instance a#1\\nforged")
    assert said[1] == "key user refused (not_permitted): POST /lmxd/stop: the key of user is no administrator's"
    assert said[2].startswith("key root done: stop {'instance': 'a#1'")


def test_a_client_that_leaves_a_stream_is_no_error(tmp_path: Path) -> None:
    """Each had left a traceback."""
    model(tmp_path, "m", token_seconds=0.0005, token_bytes=2000)
    config = {
        "gpu": {"device": "host", "max_memory_gb": 1},
        "engine": {"path": str(fake_engine(tmp_path))},
        "model_dir": str(tmp_path),
        "models": {"m": {"estimated_memory_gb": 0.1}},
    }
    asked = {"model": "m", "stream": True, "max_tokens": 5000, "messages": [{"role": "user", "content": "x"}]}
    body = json.dumps(asked).encode()
    with Lmxd(tmp_path, config) as lmxd, Gateway(lmxd) as gateway:
        head = f"Host: localhost\r\nAuthorization: Bearer {gateway.key}\r\nContent-Length: {len(body)}\r\n\r\n"
        for path in ("/v1/chat/completions", "/api/chat") * 40:
            with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as client:
                client.sendall(f"POST {path} HTTP/1.1\r\n{head}".encode() + body)
                assert client.recv(3000).startswith(b"HTTP/1.1 200 OK")
                client.recv(400_000)
        with lmxd.client() as daemon:
            wait_until(lambda: not any(i.leases for i in daemon.instances().instances))
    log = gateway.log.read_text()
    assert "Traceback" not in log
    assert " ERROR " not in log
