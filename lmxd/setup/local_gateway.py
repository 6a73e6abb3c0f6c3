"""The gateway as programs on this machine reach it."""

from __future__ import annotations

import http.client
import os
import pwd
import ssl
from contextlib import suppress
from typing import Final

from lmxd.config.gateway import GatewayConfig
from lmxd.instances.ports import at_port
from lmxd.unix_http import UnixHttpConnection

_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 (nothing is bound here)
"""Where to reach a server that listens on all networks."""
_TITLE: Final = b"<title>lmxd</title>"
_ENOUGH: Final = 4096
"""The dashboard has its title among so many bytes. Other servers on that port say that they are well, too."""
_SERVICE: Final = "lmxd-gateway"
"""The user of the system's gateway."""
_PATIENCE: Final = 10.0
"""Seconds in which the gateway is to answer."""


class LocalGateway:
    """The gateway of a configuration that says ``listen``, from this machine."""

    def __init__(self, config: GatewayConfig) -> None:
        assert config.listen is not None
        self._tls = config.tls_cert is not None
        self._unix = config.listen.removeprefix("unix:") if config.listen.startswith("unix:") else None
        host, _, self._port = config.listen.rpartition(":")
        self._host = _LOOPBACK.get(host, host)
        self._listen = config.listen

    @property
    def url(self) -> str:
        """Its address for programs on this machine."""
        if self._unix is not None:
            return self._listen
        return f"{'https' if self._tls else 'http'}://{self._host}:{self._port}"

    def answers(self, key: str | None = None) -> bool:
        """Whether it is a gateway of lmxd that answers there; with ``key``: whether it knows that key."""
        if self._is_anothers():
            return False
        try:
            connection = self._connection()
            if key is not None and not self._tls:
                connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {key}"})
                return connection.getresponse().status == 200
            connection.request("GET", "/")
            answer = connection.getresponse()
            return answer.status == 200 and _TITLE in answer.read(_ENOUGH)
        except (OSError, http.client.HTTPException):
            return False

    def _is_anothers(self) -> bool:
        """Whether it is another user who listens there: no key is sent to them, nor is their page believed."""
        if self._unix is not None:
            return False
        trusted = {0, os.geteuid()}
        if trusted == {0}:
            with suppress(KeyError):
                trusted.add(pwd.getpwnam(_SERVICE).pw_uid)
        return any(listener.uid not in trusted for listener in at_port(int(self._port)))

    def _connection(self) -> http.client.HTTPConnection:
        if self._unix is not None:
            return UnixHttpConnection(self._unix, "localhost", _PATIENCE)
        host, port = self._host.strip("[]"), int(self._port)
        if not self._tls:
            return http.client.HTTPConnection(host, port, timeout=_PATIENCE)
        context = ssl.create_default_context()  # nothing secret is sent, and a certificate seldom names the loopback
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return http.client.HTTPSConnection(host, port, timeout=_PATIENCE, context=context)
