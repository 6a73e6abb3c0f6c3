"""The daemon and lmxctl as programs of their own, the way users run them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import yaml
from forked import Forked, run
from waiting import GENEROUS, wait_until

from lmxd.errors import LmxdError
from lmxd.rpc.client import Client


class Lmxd:
    """``with Lmxd(directory, config) as lmxd``: a running daemon, ended with all its instances at the end."""

    def __init__(self, directory: Path, config: dict[str, Any], env: dict[str, str] | None = None) -> None:
        self.directory = directory
        self.config_path = directory / "config.yaml"
        self.socket = directory / "lmxd.sock"
        self.log = directory / "lmxd.log"
        self.env = os.environ | (env or {})
        self.configure(config)

    def configure(self, config: dict[str, Any]) -> None:
        self.config_path.write_text(yaml.safe_dump(config))

    def config(self) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load(self.config_path.read_text())
        return found

    def start(self) -> Self:
        self.begin()
        self.until(self.answers)
        return self

    def begin(self) -> None:
        """Start it without waiting for its answers, for one that may end before."""
        with self.log.open("ab") as log:
            self.process = Forked(self.daemon_command(), stdout=log, stderr=log, env=self.env, start_new_session=True)

    def daemon_command(self) -> list[str]:
        return [sys.executable, "-m", "lmxd", "--config", str(self.config_path), "--socket", str(self.socket), "-v"]

    def answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            with self.client() as client:
                client.status()
        except LmxdError:
            return False
        return True

    def stop(self, number: int = signal.SIGINT, seconds: float = 30) -> int:
        """SIGINT ends the instances, too; SIGTERM leaves them to the next daemon."""
        self.process.send_signal(number)
        return self.process.wait(seconds)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()

    def client(self) -> Client:
        return Client(self.socket)

    def lmxctl(self, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run a command of lmxctl to its end."""
        return run(self.command(*words), env=self.ctl_env, **more)

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "lmxd.cli.main", *words]

    @property
    def ctl_env(self) -> dict[str, str]:
        return self.env | {"LMXD_SOCKET": str(self.socket), "PATH": f"{Path(sys.executable).parent}:{self.env['PATH']}"}

    def json(self, *words: str) -> Any:
        done = self.lmxctl(*words, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def instances(self) -> dict[str, Any]:
        with self.client() as client:
            return {i.instance: i for i in client.instances().instances}

    @staticmethod
    def until(holds: Callable[[], Any], seconds: float = GENEROUS) -> float:
        """Seconds until something held; fails if it does not in time."""
        return wait_until(holds, seconds)


def ask(lease: Any, question: str = "What is the capital of France? Answer in one sentence.", tokens: int = 24) -> str:
    """An answer from a leased model, over its endpoint."""
    body = {"messages": [{"role": "user", "content": question}], "max_tokens": tokens, "temperature": 0}
    answer = post(lease, "/v1/chat/completions", body)
    return str(answer["choices"][0]["message"]["content"])


def post(lease: Any, path: str, body: dict[str, Any]) -> Any:
    with opened(lease, path, body) as answer:
        return json.load(answer)


@contextlib.contextmanager
def opened(lease: Any, path: str, body: dict[str, Any] | bytes, timeout: float = 280) -> Iterator[HTTPResponse]:
    """The answer of a leased model to a POST, as it comes, over whichever endpoint it has."""
    connection = over_socket(lease.socket) if lease.socket else HTTPConnection(lease.endpoint.rpartition("/")[2])
    connection.timeout = timeout
    if connection.sock is not None:
        connection.sock.settimeout(timeout)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {lease.api_key}"}
    with contextlib.closing(connection):
        connection.request("POST", path, body if isinstance(body, bytes) else json.dumps(body), headers)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        yield answer


def over_socket(path: str) -> HTTPConnection:
    """A connection to a Unix socket."""
    connection = HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.sock.settimeout(20)
    connection.sock.connect(path)
    return connection


def get_over(path: str, url: str, key: str = "") -> str:
    """The body that a GET over a Unix socket returns."""
    connection = over_socket(path)
    try:
        connection.request("GET", url, headers={"Authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.read().decode()
    finally:
        connection.close()


def lease_from(shown: dict[str, Any]) -> SimpleNamespace:
    """What ``lmxctl request --json`` printed."""
    return SimpleNamespace(**shown)
