"""Former members of a fleet, as its authority tells them: a node lets them in no more, by no certificate."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from nats.aio.client import Client as Bus
from nats.aio.msg import Msg

from lmxd.errors import LmxdError
from lmxd.files import read_text
from lmxd.fleet import private_files
from lmxd.fleet.authority.certificates import key_hash_of_der
from lmxd.fleet.names import REMOVED
from lmxd.fleet.reading import read
from lmxd.fleet.tls import HasExtra
from lmxd.listening.connection import HttpConnection
from lmxd.listening.connections import Closable, Connections

log = logging.getLogger(__name__)
_LARGEST: Final = 2**21
"""Bytes of the file: NATS brings no more than half of it."""


class Removed:
    """The keys of former members, by their hash. A ``file`` keeps what was told last, for the next start."""

    def __init__(self, file: Path, connections: Connections) -> None:
        """``connections``: those of the door."""
        self._file, self._connections = file, connections
        try:
            self._keys = frozenset(read(read_text(file, _LARGEST).encode(), list[str]))
        except (OSError, ValueError):  # nothing was told yet
            self._keys = frozenset()

    def has(self, transport: HasExtra) -> bool:
        """Whether a former member is at the other end of a connection."""
        if not self._keys or (tls := transport.get_extra_info("ssl_object")) is None:
            return False
        shown = tls.getpeercert(binary_form=True)
        return shown is not None and key_hash_of_der(shown) in self._keys

    async def hear(self, bus: Bus) -> None:
        """Hear of further ones from now on."""
        await bus.subscribe(REMOVED, cb=self._told)

    async def _told(self, message: Msg) -> None:
        if message.subject != REMOVED:
            return  # what NATS keeps, sent here at the wish of another member
        try:
            keys = frozenset(read(message.data, list[str]))
        except ValueError as error:
            log.warning("the list of former members cannot be read: %s", error)
            return
        if keys == self._keys:
            return
        self._keys = keys
        self._connections.cut(self._is_removed)
        log.info("%d former members of the fleet are not let in", len(keys))
        try:
            private_files.write(self._file, message.data)
        except LmxdError as error:
            log.warning("former members are known until this process ends: %s", error)

    def _is_removed(self, connection: Closable) -> bool:
        return (
            isinstance(connection, HttpConnection)
            and connection.transport is not None
            and self.has(connection.transport)
        )
