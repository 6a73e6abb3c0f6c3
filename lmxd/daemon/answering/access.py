"""Access: members may do everything about their own leases, administrators everything.

A user's own daemon (``lmxd --user``) is for that user and root. The system's is for the members of two groups. The user
that it runs as is no member, for its engines run as that user too, and they serve requests from anywhere.
"""

from __future__ import annotations

import os
from collections.abc import Set

from lmxd.core.words import ConnectionId, Owner
from lmxd.daemon.answering import audit
from lmxd.daemon.places import ADMIN_GROUP, GROUP
from lmxd.daemon.rules import gid_of, uid_of
from lmxd.errors import LmxdError
from lmxd.rpc.peer import Peer

GATEWAY = "lmxd-gateway"
"""The user that the system's gateway runs as. It may ask for other users."""


class Access:
    """Decides what a peer may do. ``shared``: the daemon is the system's, rather than one user's own."""

    def __init__(self, *, shared: bool) -> None:
        self.shared = shared
        self.refresh()

    def refresh(self) -> None:
        """Look up the groups again, for they may have been created since."""
        self.members, self.admins, self.gateway = gid_of(GROUP), gid_of(ADMIN_GROUP), uid_of(GATEWAY)

    def admits(self, peer: Peer) -> bool:
        """Whether a peer may call any method, whatever the modes of the socket file allow."""
        return self.is_admin(peer) or (self.shared and self.members in peer.groups)

    def is_admin(self, peer: Peer) -> bool:
        if peer.uid == 0 or (peer.uid == os.getuid() and not self.shared):
            return True
        return self.shared and self.admins in peer.groups

    def sees(self, peer: Peer, uid: int) -> bool:
        """Whether a peer may see what belongs to ``uid``."""
        return peer.uid == uid or self.is_admin(peer)

    def require_admin(self, peer: Peer, what: str) -> None:
        permitted = self.is_admin(peer)
        audit.act(peer, what, permitted=permitted)
        if not permitted:
            remedy = f"join the group {ADMIN_GROUP}, or ask root"
            raise LmxdError("not_permitted", f"uid {peer.uid} may not {what}", remedy)

    def require_proxy(self, peer: Peer, user: str) -> None:
        """Check that a peer may ask for other users. LmxdError ``not_permitted``."""
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
    """The owner of a call: the peer, and the user for whom it asks."""
    gids = tuple(sorted(peer.groups))
    return Owner(uid=peer.uid, pid=peer.pid, connection=connection, gids=gids, user=user or "")
