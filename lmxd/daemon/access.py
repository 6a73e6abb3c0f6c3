"""Who may do what: everybody their own, administrators everything."""

from __future__ import annotations

import grp
import os

from lmxd.errors import LmxdError
from lmxd.rpc.peer import Peer

ADMIN_GROUP = "lmxd-admin"


def is_admin(peer: Peer) -> bool:
    """Root, the user whom the daemon runs as, and members of ``lmxd-admin``."""
    if peer.uid in (0, os.getuid()):
        return True
    try:
        return grp.getgrnam(ADMIN_GROUP).gr_gid in peer.groups
    except KeyError:
        return False


def require_admin(peer: Peer, what: str) -> None:
    if not is_admin(peer):
        raise LmxdError("not_permitted", f"uid {peer.uid} may not {what}", f"join the group {ADMIN_GROUP}, or ask root")


def require_owner(peer: Peer, uids: set[int], what: str) -> None:
    if peer.uid not in uids and not is_admin(peer):
        raise LmxdError("not_permitted", f"{what} belongs to another user", f"its owner, {ADMIN_GROUP} or root may")
