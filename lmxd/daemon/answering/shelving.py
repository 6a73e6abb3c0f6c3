"""The call ``shelve``: what a slot has is put by, and what was put by before is read in its place."""

from __future__ import annotations

from lmxd.core.books.state import State
from lmxd.core.words import ConnectionId
from lmxd.daemon.answering.answers import is_alone
from lmxd.daemon.answering.growing import require_slot
from lmxd.daemon.answering.leasing import Leasing
from lmxd.daemon.launching.shelf import Shelf
from lmxd.errors import LmxdError
from lmxd.rpc.server import Connection
from lmxd.rpc.shelving import Shelved, ShelveParams


class Shelving:
    """Answers the call ``shelve``."""

    def __init__(self, leasing: Leasing, shelf: Shelf, state: State) -> None:
        self._leasing = leasing
        self._shelf = shelf
        self._state = state

    async def shelve(self, connection: Connection, params: ShelveParams) -> Shelved:
        """LmxdError for another's lease, and for a slot that there is not. Nothing is done for who is not alone."""
        lease, of = self._leasing.lease(connection, params.lease), ConnectionId(connection.id)
        if lease.owner.uid != connection.peer.uid:
            raise LmxdError("not_permitted", f"lease {lease.id} belongs to another user", "its owner may ask for it")
        instance = self._state.instances.get(lease.instance)
        if instance is None or lease.parked is not None:
            return Shelved()
        require_slot(instance, params.slot)
        if not is_alone(lease, instance):
            return Shelved()
        kept, back = await self._shelf.exchange(instance.id, params.slot, of, keep=params.keep, back=params.back)
        return Shelved(kept=kept, back=back)
