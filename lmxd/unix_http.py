"""HTTP over Unix sockets, for commands that ask one thing and need no event loop for it."""

from __future__ import annotations

import http.client
import socket


class UnixHttpConnection(http.client.HTTPConnection):
    """A connection to the server at a Unix socket. ``host``: the name that it is called by there."""

    def __init__(self, path: str, host: str, timeout: float) -> None:
        super().__init__(host, timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
