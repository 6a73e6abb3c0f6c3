"""Who may do what: members everything about their own, administrators everything.

A daemon of one user's is that user's and root's. One of the system's is for the members of two groups; the user that
it runs as is no member: its engines run as it, too, and they serve requests from anywhere.
"""

from __future__ import annotations

import os
from collections.abc import Set

from lmxd.core.words import ConnectionId, Owner
from lmxd.daemon.answering import audit
from lmxd.daemon.places import GROUP
from lmxd.daemon.rules import gid_of, uid_of
from lmxd.errors import LmxdError
from lmxd.rpc.peer import Peer

ADMIN_GROUP = "lmxd-admin"
GATEWAY = "lmxd-gateway"
"""The user that the system's gateway runs as."""


class Access:
    """``shared``: the daemon is the system's."""

    def __init__(self, *, shared: bool) -> None:
        self.shared = shared
        self.refresh()

    def refresh(self) -> None:
        """Groups may have been made since."""
        self.members, self.admins, self.gateway = gid_of(GROUP), gid_of(ADMIN_GROUP), uid_of(GATEWAY)

    def admits(self, peer: Peer) -> bool:
        """Whether a peer may ask for anything at all, whatever the modes of the socket say."""
        return self.is_admin(peer) or (self.shared and self.members in peer.groups)

    def is_admin(self, peer: Peer) -> bool:
        if peer.uid == 0 or (peer.uid == os.getuid() and not self.shared):
            return True
        return self.shared and self.admins in peer.groups

    def sees(self, peer: Peer, uid: int) -> bool:
        """Whether what is ``uid``'s is the peer's business."""
        return peer.uid == uid or self.is_admin(peer)

    def require_admin(self, peer: Peer, what: str) -> None:
        permitted = self.is_admin(peer)
        audit.act(peer, what, permitted=permitted)
        if not permitted:
            remedy = f"join the group {ADMIN_GROUP}, or ask root"
            raise LmxdError("not_permitted", f"uid {peer.uid} may not {what}", remedy)

    def require_proxy(self, peer: Peer, user: str) -> None:
        """Whoever says whom it asks for is to be believed."""
        if not self.is_admin(peer) and not (self.shared and peer.uid == self.gateway):
            remedy = f"leave user out; run the gateway as {GATEWAY}, or as a member of {ADMIN_GROUP}"
            raise LmxdError("not_permitted", f"uid {peer.uid} may not ask for {user}", remedy)

    def require_owner(self, peer: Peer, uids: Set[int], what: str) -> None:
        if peer.uid in uids:
            return
        if not self.is_admin(peer):
            remedy = f"its owner, {ADMIN_GROUP} or root may"
            raise LmxdError("not_permitted", f"{what} belongs to another user", remedy)


def owner_of(peer: Peer, connection: ConnectionId, user: str | None = None) -> Owner:
    """Who is at the other end, in the core's terms, and whom it asks for."""
    gids = tuple(sorted(peer.groups))
    return Owner(uid=peer.uid, pid=peer.pid, connection=connection, gids=gids, user=user or "")
