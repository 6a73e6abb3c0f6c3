"""Decisions as the clients see them that called ``watch``."""

from __future__ import annotations

import time
from collections.abc import Sequence

from lmxd.core.books.state import State
from lmxd.core.decisions import Decision, RefuseLease, StartInstance
from lmxd.core.words import LeaseId, TicketId
from lmxd.daemon.answering.access import Access
from lmxd.daemon.answering.redaction import redacted
from lmxd.errors import LmxdError
from lmxd.rpc import framing
from lmxd.rpc.notifications import Happened, Notification
from lmxd.rpc.peer import Peer
from lmxd.rpc.server import Connection

_TOLD = "ticket lease instance reason detail cause position waited why within eta closes_in price profile".split()
"""Fields of a decision that a watcher gets, if the decision has them."""
_TOLD_OF_OTHERS = ("instance", "position")
"""The fields that a watcher gets of another user's decision."""
_TOLD_OF_NOBODY = [field for field in _TOLD if field not in ("ticket", "lease", "profile")]
"""The fields of a decision that has no owner, such as the end of an instance: nothing of those whom it is made for."""
_MOST_OF_USER = 32
"""The most watching connections of a user: each costs something at every decision."""


class Watchers:
    """The clients that watch. Each is told what its user may know."""

    def __init__(self, state: State, access: Access) -> None:
        self._state = state
        self._access = access
        self._watching: dict[int, Connection] = {}

    def __contains__(self, connection: Connection) -> bool:
        return connection.id in self._watching

    def add(self, connection: Connection) -> None:
        """Tell a client of every decision from now on. LmxdError ``too_many`` if its user has enough such clients."""
        uid = connection.peer.uid
        if connection not in self and sum(x.peer.uid == uid for x in self._watching.values()) >= _MOST_OF_USER:
            raise LmxdError("too_many", f"uid {uid} has {_MOST_OF_USER} connections that watch already", "close some")
        self._watching[connection.id] = connection

    def forget(self, connection: Connection) -> None:
        self._watching.pop(connection.id, None)

    def tell(self, decision: Decision) -> None:
        """Notify all that watch; it is put into words once for each user."""
        said: dict[tuple[int, bool], bytes] = {}
        for connection in list(self._watching.values()):
            peer = connection.peer
            user = peer.uid, self._access.is_admin(peer)
            if user not in said:
                said[user] = framing.notification(Notification.EVENT, self._event(decision, peer))
            connection.send(said[user])

    def _event(self, decision: Decision, peer: Peer) -> dict[str, object]:
        """A decision: its name, and the fields that a peer may know. It never has an endpoint's key."""
        owner = getattr(decision, "owner", None)
        if self._access.is_admin(peer) or (owner is not None and self._access.sees(peer, owner.uid)):
            told: Sequence[str] = _TOLD
        else:
            told = _TOLD_OF_NOBODY if owner is None else _TOLD_OF_OTHERS
        about = {key: value for key in told if (value := getattr(decision, key, None)) is not None}
        for key in {"why", "detail"} & about.keys():
            about[key] = self.redacted(about[key], peer)
        if isinstance(decision, RefuseLease) and told is _TOLD:
            about |= {"code": decision.refusal.code, "message": decision.refusal.message}
        if isinstance(decision, StartInstance):
            about |= {"model": decision.ask.profile, "devices": dict(decision.option.devices)}
        return Happened(event=type(decision).__name__, at=time.time(), **about).model_dump(mode="json")

    def redacted(self, text: str, peer: Peer) -> str:
        """The text of a decision as a peer may read it."""

        def sees(name: str) -> bool:
            found = self._state.tickets.get(TicketId(name)) or self._state.leases.get(LeaseId(name))
            return self._access.is_admin(peer) or (found is not None and found.owner.uid == peer.uid)

        return redacted(text, sees)
