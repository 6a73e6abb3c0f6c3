"""``lmxd fleet node`` as a program of its own, beside an ``Lmxd``, and requests to its door."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import ssl
import sys
from types import SimpleNamespace
from typing import Any

import aiohttp
from forked import Forked
from lmxd_process import Lmxd
from waiting import GENEROUS

from lmxd.fleet.home import FleetHome
from lmxd.fleet.members import MemberRole
from lmxd.fleet.tls import client_context


class Node:
    """``with Node(lmxd, home) as node``: it listens at the door of ``home``, whose role ``node`` has a certificate."""

    def __init__(self, lmxd: Lmxd, home: FleetHome) -> None:
        self.lmxd, self.home = lmxd, home
        self.name, self.address = home.settings.node, home.settings.listen or home.settings.door
        self.log = home.state / "node.log"

    def command(self) -> list[str]:
        words = ["--config", str(self.lmxd.config_path), "--socket", str(self.lmxd.socket)]
        return [sys.executable, "-m", "lmxd", *words, "fleet", "--home", str(self.home.state), "node"]

    def start(self) -> Node:
        with self.log.open("ab") as log:
            self.process = Forked(self.command(), stdout=log, stderr=log, env=self.lmxd.env)
        Lmxd.until(self.listens)
        return self

    def listens(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        host, _, port = self.address.rpartition(":")
        with socket.socket() as probe:
            return probe.connect_ex((host, int(port))) == 0

    def end(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(GENEROUS)

    def __enter__(self) -> Node:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.end()

    async def ask(self, path: str, body: Any = None, *, by: FleetHome, **headers: str) -> SimpleNamespace:
        """The whole answer of its door to a member's request: a gateway's, unless ``role`` is among the headers.

        ``method`` may be, too.
        """
        role = MemberRole(headers.pop("role", MemberRole.GATEWAY))
        return await self.asked(path, body, client_context(by, role), **headers)

    async def asked(self, path: str, body: Any, context: ssl.SSLContext, **headers: str) -> SimpleNamespace:
        """The same with any certificate, or none. aiohttp.ClientError if there is no connection to be had."""
        host = self.home.member(MemberRole.NODE).host
        method = headers.pop("method", "GET" if body is None else "POST")
        connector = aiohttp.TCPConnector(ssl=context, force_close=True)
        url = path if path.startswith("https:") else f"https://{self.address}{path}"
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(method, url, json=body, headers=headers, server_hostname=host) as answer,
        ):
            text = await answer.text()
            return SimpleNamespace(status=answer.status, text=text, headers=answer.headers, json=_json(text))

    def asked_now(self, path: str, body: Any = None, *, by: FleetHome, **headers: str) -> SimpleNamespace:
        """``ask`` from where there is no loop."""
        return asyncio.run(self.ask(path, body, by=by, **headers))


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
