"""The configuration of nats-server, as JSON, which is also its own language."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lmxd.fleet.addresses import bound
from lmxd.fleet.authority.permissions import permissions
from lmxd.fleet.members import Member

_CARDS: Final = 64 * 2**20
"""Bytes of all cards together, in a file: thousands of nodes."""
_TLS: Final = {"timeout": 5, "min_version": "1.3"}


@dataclass(frozen=True, kw_only=True)
class Peering:
    """The servers of a cluster. ``address``: HOST:PORT of this one for the others; ``routes``: those of the others.

    ``keys``: SHA-256 of the public key of each, in hexadecimal digits: no other member passes for a server.
    """

    address: str
    routes: tuple[str, ...]
    keys: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class BusServer:
    """One nats-server. ``address``: HOST:PORT for members; ``data``: a directory of its own."""

    member: Member
    address: str
    certificate: Path
    key: Path
    ca: Path
    data: Path
    peering: Peering | None = None


def configuration(server: BusServer, members: Mapping[Member, str]) -> str:
    """Its configuration file: only these members come in, by their keys, and each has its own permissions.

    A member's key is the SHA-256 of its public key, in hexadecimal digits: a certificate names its member until it
    ends, also when another box has taken the place of that.
    """
    files = {"cert_file": str(server.certificate), "key_file": str(server.key), "ca_file": str(server.ca)}
    said: dict[str, Any] = {
        "server_name": server.member.name,
        "listen": bound(server.address),
        "client_advertise": server.address,
        "tls": files | _TLS | {"verify_and_map": True},
        "authorization": {"timeout": 10, "users": _users(members)},
        "jetstream": {"store_dir": str(server.data), "max_memory_store": 0, "max_file_store": _CARDS},
        "ping_interval": "2s",
        "ping_max": 2,
        "write_deadline": "5s",
        "logtime": False,
    }
    if server.peering is not None:
        said["cluster"] = {
            "name": server.member.fleet,
            "listen": bound(server.peering.address),
            "cluster_advertise": server.peering.address,
            "tls": files | _TLS | {"verify": True, "pinned_certs": list(server.peering.keys)},
            "routes": [f"nats-route://{address}" for address in server.peering.routes],
        }
    return json.dumps(said, indent=1)


def _users(members: Mapping[Member, str]) -> Sequence[dict[str, Any]]:
    ordered = sorted(members.items(), key=lambda item: item[0].uri)
    return [{"user": member.user(key), "permissions": permissions(member)} for member, key in ordered]
