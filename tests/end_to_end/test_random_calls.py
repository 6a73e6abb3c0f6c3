"""A daemon and a gateway under random calls and requests; LMXD_FUZZ_SECONDS=3600 for an hour of them.

Nothing may be ``internal``, stall, leave a traceback in a log, break an invariant, or keep memory.
"""

from __future__ import annotations

import json
import os
import re
import select
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, cast

import pytest
from fuzzing import Fuzzer
from gateway_process import Gateway
from lmxd_process import Lmxd

from lmxd.config.gateway import GatewayConfig
from lmxd.gateway.app import application
from lmxd.gateway.leasing.leases import Leases
from lmxd.gateway.ollama.pulls import Pulls
from lmxd.gateway.requests.authentication import Authentication

SECONDS: Final = float(os.environ.get("LMXD_FUZZ_SECONDS", "6"))
SEED: Final = int(os.environ.get("LMXD_FUZZ_SEED", "17"))
PATIENCE: Final = 30.0
"""Seconds for any answer: far more than it takes, far less than a stall."""
HASTE: Final = 1.0
"""Seconds for an answer to what may not be a whole request; then no more comes of it."""
MIB: Final = 2**20


def rss(pid: int) -> int:
    """Bytes of RAM that a process has."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def routes() -> list[tuple[str, str]]:
    """(method, path) of all that the gateway serves."""
    nobody = cast(Authentication, None), cast(Pulls, None)
    app = application(GatewayConfig(anonymous=True), Leases(Path("/nonexistent"), instances=1), *nobody)
    return [
        (route.method, str(info))
        for route in app.router.routes()
        if (info := route.resource and route.resource.canonical)
    ]


def call(lmxd: Lmxd, fuzzer: Fuzzer, seen: Counter[str]) -> None:
    """One connection: some frames, then one that must be answered unless lmxd has hung up."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(str(lmxd.socket))
        frames = [fuzzer.frame(n) for n in range(fuzzer.rng.randrange(1, 12))]
        last = b'{"jsonrpc":"2.0","id":"last","method":"lmxd.hello","params":{"protocol":"1"}}\n'
        with suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(b"".join(frames) + last)
        try:
            for line in sock.makefile("rb"):
                answer = json.loads(line)
                if "error" in answer:
                    code = answer["error"]["data"]["code"]
                    assert code != "internal", (SEED, answer, frames)
                    seen[code] += 1
                elif "result" in answer:
                    seen["answered"] += 1
                    for key in ("lease", "instance", "ticket", "id"):
                        if isinstance(text := (answer["result"] or {}).get(key), str):
                            fuzzer.learn(text)
                if answer.get("id") == "last":
                    return
        except ConnectionResetError:
            seen["hung up"] += 1
            return
        except TimeoutError:
            pytest.fail(f"stalled, seed {SEED}: {frames!r}")
        seen["hung up"] += 1


def ask(gateway: Gateway, fuzzer: Fuzzer, served: list[tuple[str, str]], seen: Counter[str]) -> None:
    """One request over a connection of its own. What is answered begins within a time; streams are left."""
    sent = fuzzer.request(served, gateway.port, (gateway.key, gateway.admin, "wrong", "\xff", "a b"))
    with socket.create_connection(("127.0.0.1", gateway.port), PATIENCE) as sock:
        with suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(sent)
        try:
            if not select.select([sock], [], [], HASTE)[0]:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_WR)  # a client that shuts its end has gone, and is not answered
            head = sock.recv(65536)
        except ConnectionResetError:
            head = b""
        except TimeoutError:
            pytest.fail(f"stalled, seed {SEED}: {sent!r}")
    found = re.match(rb"HTTP/\d\.\d (\d{3}) ", head)
    assert found or not head, (SEED, sent, head)
    status = found[1].decode() if found else "hung up"
    assert status != "500", (SEED, sent, head)
    seen[status] += 1


def test_nothing_at_random_is_internal_or_stalls(fake: Callable[..., Lmxd]) -> None:
    models = {"m": {"estimated_memory_gb": 0.3, "aliases": ["alias"]}}
    with fake(models=models, idle_timeout=1) as lmxd, Gateway(lmxd, wait=2) as gateway:
        fuzzer, served, seen = Fuzzer(SEED), routes(), Counter[str]()
        until, before = time.monotonic() + SECONDS, None
        while time.monotonic() < until:
            call(lmxd, fuzzer, seen)
            ask(gateway, fuzzer, served, seen)
            if seen["draining"]:
                del seen["draining"]
                with lmxd.client() as client:
                    client.drain(end=True)
            if before is None and time.monotonic() > until - SECONDS / 2:
                before = rss(lmxd.process.pid), rss(gateway.process.pid)
        print(f"\nseed {SEED}: {dict(seen)}")
        after = rss(lmxd.process.pid), rss(gateway.process.pid)
        print(f"RSS {[round(x / MIB) for x in before or ()]} -> {[round(x / MIB) for x in after]} MiB")
        with lmxd.client() as client:
            client.drain(end=True)
            status = client.status()
        assert status.broken_invariants == []
        assert gateway.answers()
        assert seen["answered"]
        assert seen["200"]
        for log in (lmxd.log, gateway.log):
            text = log.read_bytes().decode()
            assert "Traceback" not in text, text[text.index("Traceback") - 500 :][:3000]
            *lines, end = text.split("\n")
            assert [line for line in lines if not (line.isprintable() and line.startswith("20"))] == []
            assert end == ""
        assert before is not None
        assert all(x - y < 64 * MIB for x, y in zip(after, before, strict=True))
