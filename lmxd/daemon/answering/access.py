"""Access: members may do everything about their own leases, administrators everything.

A user's own daemon (``lmxd --user``) is for that user and root. The system's is for the members of two groups. A user
that engines run as is refused there, whatever its groups: engines serve requests from anywhere. A process with a
subordinate uid counts as its owner's, but never as an administrator's.
"""

from __future__ import annotations

import os
from collections.abc import Set
from dataclasses import replace

from lmxd.core.words import ConnectionId, Owner
from lmxd.daemon.answering.users import Users
from lmxd.daemon.places import ADMIN_GROUP, GROUP
from lmxd.daemon.rules import gid_of, uid_of
from lmxd.errors import LmxdError
from lmxd.rpc.peer import Peer

GATEWAY = "lmxd-gateway"
"""The user that the system's gateway runs as. It may ask for other users."""


class Access:
    """Decides who a peer is, and what it may do.

    ``shared``: the daemon is the system's, rather than one user's own. ``engines``: the uids that engines run as.
    """

    def __init__(self, *, shared: bool, engines: Set[int] = frozenset()) -> None:
        self.shared = shared
        self.users = Users()
        self.engines = {os.getuid(), *engines}
        """They only become more: an instance that was started as another user is still that user's."""
        self.refresh()

    def refresh(self) -> None:
        """Look up users and groups again, for they may have been created since."""
        self.users.forget()
        self.members, self.admins, self.gateway = gid_of(GROUP), gid_of(ADMIN_GROUP), uid_of(GATEWAY)

    async def identify(self, peer: Peer) -> Peer:
        """The peer as it is treated: a process with a subordinate uid is its owner's.

        LmxdError ``not_permitted`` for one that may not call any method, whatever the modes of the socket file allow.
        """
        if self.shared:
            owner = await self.users.owner(peer.uid)
            if owner != peer.uid:
                peer = replace(peer, uid=owner, subordinate=peer.uid)
        if not self.admits(peer):
            if self._is_engine(peer):
                message = f"uid {peer.uid} may not use lmxd: it is the user that lmxd and its engines run as"
                raise LmxdError("not_permitted", message, f"ask as another user, one of the group {GROUP}")
            raise LmxdError("not_permitted", f"uid {peer.uid} may not use lmxd", f"join the group {GROUP}")
        return replace(peer, listed=await self.users.groups(peer.uid)) if self.shared else peer

    def _is_engine(self, peer: Peer) -> bool:
        """Root cannot be kept out of anything, not even where engines run as root."""
        return self.shared and peer.uid in self.engines and (peer.uid != 0 or peer.subordinate is not None)

    def admits(self, peer: Peer) -> bool:
        """Whether a peer may call any method."""
        if self._is_engine(peer):
            return False
        return self.is_admin(peer) or (self.shared and self.members in peer.groups)

    def is_admin(self, peer: Peer) -> bool:
        if peer.subordinate is not None:
            return False
        if peer.uid == 0 or (peer.uid == os.getuid() and not self.shared):
            return True
        return self.shared and self.admins in peer.groups

    def sees(self, peer: Peer, uid: int) -> bool:
        """Whether a peer may see what belongs to ``uid``."""
        return peer.uid == uid or self.is_admin(peer)

    def require_admin(self, peer: Peer, what: str) -> None:
        """LmxdError ``not_permitted`` for all others."""
        if not self.is_admin(peer):
            remedy = f"join the group {ADMIN_GROUP}, or ask root"
            raise LmxdError("not_permitted", f"uid {peer.uid} may not {what}", remedy)

    def require_proxy(self, peer: Peer, what: str, key: str) -> None:
        """Check that a peer may ask for other users, as ``key`` of its call says. LmxdError ``not_permitted``."""
        if not self._is_proxy(peer):
            remedy = f"leave {key} out; run the gateway as {GATEWAY}, or as a member of {ADMIN_GROUP}"
            raise LmxdError("not_permitted", f"uid {peer.uid} may not {what}", remedy)

    def require_reach(self, peer: Peer, model: str) -> None:
        """Check that a peer may reach the endpoint of a model that sleeps. LmxdError ``not_permitted``.

        Its engine puts to sleep, wakes and resets for whoever reaches its socket, with or without its key. The gateway
        passes on none of these paths; administrators may stop it, too.
        """
        if not self._is_proxy(peer):
            message = f"uid {peer.uid} may not lease {model}: it has sleep: true, so that its socket is for the gateway"
            raise LmxdError("not_permitted", message, "ask the gateway for it, or have sleep left out of its profile")

    def _is_proxy(self, peer: Peer) -> bool:
        is_gateway = self.shared and peer.uid == self.gateway and peer.subordinate is None
        return is_gateway or self.is_admin(peer)

    def require_owner(self, peer: Peer, uids: Set[int], what: str) -> None:
        if peer.uid in uids:
            return
        if not self.is_admin(peer):
            remedy = f"its owner, {ADMIN_GROUP} or root may"
            raise LmxdError("not_permitted", f"{what} belongs to another user", remedy)


def owner_of(peer: Peer, connection: ConnectionId, user: str | None = None) -> Owner:
    """The owner of a call: the peer, and the user for whom it asks.

    Its groups are for quotas: a process sheds groups in a user namespace, but not those that its user is listed in.
    """
    gids = tuple(sorted(peer.groups | peer.listed))
    return Owner(uid=peer.uid, pid=peer.pid, connection=connection, gids=gids, user=user or "")
