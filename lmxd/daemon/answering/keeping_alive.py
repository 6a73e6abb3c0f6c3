"""The call ``keep_alive``: clients say how long a model stays once nobody uses it."""

from __future__ import annotations

import time
from collections.abc import Callable

from lmxd.core.books.state import State
from lmxd.core.events import Event
from lmxd.core.orders import KeepAliveChanged
from lmxd.daemon.answering.access import Access
from lmxd.rpc.keeping_alive import KeepAliveParams, KeptAlive
from lmxd.rpc.server import Connection


class KeepingAlive:
    """Answers the call ``keep_alive``. Nobody's lease ends by it, so that every member may call it."""

    def __init__(self, state: State, access: Access, report: Callable[[Event], None]) -> None:
        self._state = state
        self._access = access
        self._report = report

    def keep_alive(self, connection: Connection, params: KeepAliveParams) -> KeptAlive:
        """Tell all instances of a model; of private ones, the caller's own."""
        if params.user is not None:
            self._access.require_proxy(connection.peer, f"ask for {params.user}", "user")
        allowed = (None, (connection.peer.uid, params.user or ""))
        found = [
            i.id
            for i in self._state.instances.values()
            if i.ask.profile == params.model and not i.ask.external and i.ask.private_to in allowed
        ]
        for instance in found:
            self._report(KeepAliveChanged(at=time.monotonic(), instance=instance, seconds=params.seconds))
        return KeptAlive(instances=list(found))
