"""The connections of gateways, which are told where the conversations went that they left in slots."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set

from lmxd.core.books.state import State
from lmxd.core.words import ConnectionId, InstanceId
from lmxd.rpc.notifications import ConversationPutBy
from lmxd.rpc.server import Connection


class TellingGateways:
    """Tells a gateway of each conversation that it left in a slot and that is in a file now.

    ``reusing``: the connections that may use a lease for several requests, as gateways do.
    """

    def __init__(self, state: State, reusing: Set[int], connections: Callable[[], Mapping[int, Connection]]) -> None:
        self._state = state
        self._reusing = reusing
        self._connections = connections

    def __contains__(self, connection: object) -> bool:
        return connection in self._reusing

    def tell_put_by(self, connection: ConnectionId, instance: InstanceId, slot: int, name: str) -> None:
        now, there = self._state.instances.get(instance), self._connections().get(connection)
        if now is not None and there is not None:
            there.notify(ConversationPutBy(model=now.ask.profile, instance=instance, slot=slot, kept=name))
