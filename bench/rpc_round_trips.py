"""Round trips on the socket, beside the same answer from an aiohttp server on a Unix socket, in one run.

bench/rpc_round_trips.py [--shortest]: a daemon over the fake engine and an aiohttp server run as processes of their
own; both are asked in turn. Prints microseconds per round trip.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from house import fake_engine, model
from lmxd_process import Lmxd

PEER = """
import sys
from aiohttp import web
async def hello(request):
    return web.json_response({"id": 1, "result": {"protocol": "1.0", "server": "aiohttp"}})
app = web.Application()
app.router.add_post("/", hello)
web.run_app(app, path=sys.argv[1], print=None, access_log=None)
"""
BODY = b'{"jsonrpc":"2.0","id":1,"method":"hello","params":{}}'


def ask(path: Path, frame: bytes, complete: Callable[[bytes], bool]) -> Callable[[], None]:
    """One round trip on a connection that stays open."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(str(path))

    def once() -> None:
        sock.sendall(frame)
        answer = b""
        while not complete(answer):
            answer += sock.recv(65536)

    return once


def http_complete(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    length = next((line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), b":0")
    return bool(body) and len(body) >= int(length.split(b":")[1])


def measure(once: Callable[[], object], rounds: int) -> list[float]:
    times = []
    for _ in range(rounds):
        begun = time.perf_counter_ns()
        once()
        times.append((time.perf_counter_ns() - begun) / 1000)
    return times


def show(name: str, times: list[float]) -> None:
    ordered = sorted(times)
    print(f"{name:44} {ordered[len(ordered) // 2]:9.0f} {ordered[len(ordered) * 99 // 100]:9.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shortest", action="store_true", help="a few seconds in all")
    shortest = parser.parse_args().shortest
    rounds, others = (40, 10) if shortest else (2000, 300)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        model(directory, "m")
        config = {
            "gpu": {"device": "host", "max_memory_gb": 1},
            "engine": {"path": str(fake_engine(directory))},
            "model_dir": name,
            "models": {"m": {"estimated_memory_gb": 0.1}},
        }
        peer_socket = directory / "peer.sock"
        peer = subprocess.Popen([sys.executable, "-c", PEER, str(peer_socket)])
        try:
            with Lmxd(directory, config) as lmxd, lmxd.client() as client:
                Lmxd.until(peer_socket.exists)
                ours = ask(lmxd.socket, BODY + b"\n", lambda answer: answer.endswith(b"\n"))
                head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
                theirs = ask(peer_socket, head + BODY, http_complete)
                mine: list[float] = []
                other: list[float] = []
                for _ in range(4):  # in turn, so that a busy moment of the machine hits both
                    mine += measure(ours, rounds // 4)
                    other += measure(theirs, rounds // 4)
                print(f"{'round trip, one connection':44} {'p50 us':>9} {'p99 us':>9}")
                show("hello: lmxd", mine)
                show("hello: aiohttp on a Unix socket", other)
                client.request("m").release()
                show(
                    "request and release of a running instance", measure(lambda: client.request("m").release(), others)
                )
                show("devices, measured anew each time", measure(client.devices, others))
        finally:
            peer.terminate()
            peer.wait()


if __name__ == "__main__":
    main()
