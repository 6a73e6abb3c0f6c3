"""The first question to a model, and whether the gateway answers."""

from __future__ import annotations

import http.client
import os
import pwd
import socket
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Final

from lmxd.cli.conversation import answered
from lmxd.cli.wishes import WaitBar
from lmxd.config.gateway import GatewayConfig
from lmxd.errors import LmxdError
from lmxd.instances.ports import at_port
from lmxd.rpc.client import Client
from lmxd.terminal import say

QUESTION: Final = "Say hello in one short sentence."
_TOKENS: Final = 200
"""The most of an answer: a model that thinks first needs some."""
_TITLE: Final = b"<title>lmxd</title>"
_ENOUGH: Final = 4096
"""The dashboard has its title among so many bytes. Other servers on that port say that they are well, too."""
_SERVICE: Final = "lmxd-gateway"
"""The user of the system's gateway."""
_PATIENCE: Final = 10.0
"""Seconds in which the gateway is to answer."""


class _Gateway(http.client.HTTPConnection):
    """A connection to the gateway on this machine, wherever it listens."""

    def __init__(self, config: GatewayConfig) -> None:
        assert config.listen is not None
        self._path = config.listen.removeprefix("unix:") if config.listen.startswith("unix:") else None
        host, _, port = ("localhost", "", "80") if self._path else config.listen.rpartition(":")
        here = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104
        super().__init__(here.strip("[]"), int(port), timeout=_PATIENCE)
        self._tls = config.tls_cert is not None and self._path is None

    def connect(self) -> None:
        if self._path is not None:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(self.timeout)
            self.sock.connect(self._path)
            return
        super().connect()
        if self._tls:  # nothing secret is sent, and the name in a certificate is seldom that of the loopback
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.sock = context.wrap_socket(self.sock)


def gateway_answers(config: GatewayConfig, key: str | None = None) -> bool:
    """Whether a gateway of lmxd answers where a configuration says; with ``key``: whether it knows that key."""
    if config.listen is None or _is_anothers(config.listen):
        return False
    try:
        connection = _Gateway(config)
        if key is not None and config.tls_cert is None:
            connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {key}"})
            return connection.getresponse().status == 200
        connection.request("GET", "/")
        answer = connection.getresponse()
        return answer.status == 200 and _TITLE in answer.read(_ENOUGH)
    except (OSError, http.client.HTTPException):
        return False


def _is_anothers(address: str) -> bool:
    """Whether it is another user who listens there: no key is sent to them, nor is their page believed."""
    if address.startswith("unix:"):
        return False
    trusted = {0, os.geteuid()}
    if trusted == {0}:
        with suppress(KeyError):
            trusted.add(pwd.getpwnam(_SERVICE).pw_uid)
    return any(listener.uid not in trusted for listener in at_port(int(address.rpartition(":")[2])))


def daemon_answers(path: Path) -> bool:
    """Whether a daemon answers on a socket."""
    try:
        with Client(path) as client:
            client.status()
    except LmxdError:
        return False
    return True


def reload(path: Path) -> None:
    """Have a daemon that runs read its configuration. LmxdError."""
    with Client(path) as client:
        client.reload()


def ask_smallest(path: Path) -> str:
    """Ask the smallest model that can be asked, and show its answer as it comes. Its name.

    LmxdError if there is none, or none of the three smallest answers.
    """
    with Client(path) as client:
        known = client.models().models
        able = sorted((m for m in known if m.problem is None), key=lambda m: sum(m.bytes.values()))
        if not able:
            problems = "; ".join(f"{m.model}: {m.problem}" for m in known[:3])
            raise LmxdError("never_fits", f"no model can be asked: {problems or 'there is none'}", "lmxctl models")
        for number, model in enumerate(able[:3], start=1):
            say(f"{model.model}> {QUESTION}")
            try:
                with WaitBar() as progress:
                    lease = client.request(model.model, on_progress=progress.show)
                with lease:
                    answered(lease, [{"role": "user", "content": QUESTION}], _TOKENS, shown=True)
                return model.model
            except LmxdError as error:  # a model of embeddings, for example, answers nobody
                if number == len(able[:3]):
                    raise
                say(f"{error}", err=True)
    raise AssertionError("there is one at least")
