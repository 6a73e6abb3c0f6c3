"""A server that is not everybody's: the authority that signed for it, and the certificate that it asks for."""

from __future__ import annotations

import http.client
import ssl
import urllib.request
from pathlib import Path
from typing import Any

from lmxd.errors import LmxdError


def trusting(ca: Path, cert: Path, key: Path, name: str) -> urllib.request.OpenerDirector:
    """Connects to servers that have ``name`` in a certificate of ``ca``, at whatever address, and shows ``cert``.

    It follows no redirects. LmxdError ``config`` if the files cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(ca)
        context.load_cert_chain(cert, key, password=_no_password)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error)
        remedy = "they must be PEM files, which this user may read"
        raise LmxdError("config", f"{ca}, {cert} or {key} cannot be used: {reason}", remedy) from error
    opener = urllib.request.OpenerDirector()
    for handler in (urllib.request.HTTPDefaultErrorHandler, urllib.request.HTTPErrorProcessor):
        opener.add_handler(handler())
    opener.add_handler(_Handler(context, name))
    return opener


def _no_password() -> str:
    """Instead of a question on the terminal."""
    raise ValueError("the key has a password")


class _Handler(urllib.request.HTTPSHandler):
    def __init__(self, context: ssl.SSLContext, name: str) -> None:
        super().__init__()
        self._trusted = context
        self._name = name

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._connection, req)

    def _connection(self, host: str, **more: Any) -> http.client.HTTPConnection:
        return _Connection(host, self._trusted, self._name, **more)


class _Connection(http.client.HTTPConnection):
    """HTTPS to whoever has a certificate of that name."""

    default_port = http.client.HTTPS_PORT

    def __init__(self, host: str, context: ssl.SSLContext, name: str, **more: Any) -> None:
        super().__init__(host, **more)
        self._context = context
        self._name = name

    def connect(self) -> None:
        super().connect()
        self.sock = self._context.wrap_socket(self.sock, server_hostname=self._name)
