"""TLS among the members of a fleet: each shows its certificate, and both sides look at who the other is."""

from __future__ import annotations

import socket
import ssl
from typing import Any, Protocol

from lmxd.errors import LmxdError
from lmxd.fleet.home import FleetHome
from lmxd.fleet.members import Member, MemberRole, any_host, member_of


class HasExtra(Protocol):
    """A transport of asyncio."""

    def get_extra_info(self, name: str, default: Any = None) -> Any: ...


def server_context(home: FleetHome, role: MemberRole) -> ssl.SSLContext:
    """For a listener of one role, which lets in members of the fleet alone: ``peer`` says which. LmxdError ``config``.

    ``renew`` it when the certificate was renewed.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    return _of_member(context, home, role)


def client_context(home: FleetHome, role: MemberRole) -> ssl.SSLContext:
    """For connections to members. LmxdError ``config``.

    The other's host name is that of a Member (``.host``), or ``any_host`` of its role, and not what its address
    says: pass it as ``server_hostname``.
    """
    return _of_member(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), home, role)


class NodesContext(ssl.SSLContext):
    """For clients that look for the host of a URL in a certificate: that of a node has the name of its role instead."""

    host: str

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        return super().wrap_bio(incoming, outgoing, server_side, self.host, session)

    def wrap_socket(self, sock: socket.socket, *args: Any, **words: Any) -> ssl.SSLSocket:
        return super().wrap_socket(sock, *args, **words | {"server_hostname": self.host})


def nodes_context(home: FleetHome, role: MemberRole) -> ssl.SSLContext:
    """For connections to nodes, by any client of HTTPS: whoever answers has to be a node. LmxdError ``config``."""
    context = NodesContext(ssl.PROTOCOL_TLS_CLIENT)
    context.host = any_host(home.settings.fleet, MemberRole.NODE)
    return _of_member(context, home, role)


def renew(context: ssl.SSLContext, home: FleetHome, role: MemberRole) -> None:
    """Read certificate and key again, for connections to come. LmxdError ``config``, and what was in force stays so."""
    trial = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        for each in (trial, context):
            each.load_cert_chain(home.certificate(role), home.key(role))
    except (OSError, ValueError) as error:
        raise _unusable(home, role, error) from error


def peer(transport: HasExtra) -> Member | None:
    """The member at the other end of a connection; None if it showed no certificate, or one that names nobody."""
    return member_of(transport.get_extra_info("peercert"))


def _of_member(context: ssl.SSLContext, home: FleetHome, role: MemberRole) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(home.ca)
    except (OSError, ValueError) as error:
        raise _unusable(home, role, error) from error
    renew(context, home, role)
    return context


def _unusable(home: FleetHome, role: MemberRole, error: Exception) -> LmxdError:
    reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error)
    files = home.ca, home.certificate(role), home.key(role)
    missing = next((file for file in files if not file.exists()), home.directory(role))
    token = f"lmxd fleet token --role {role} --name {home.settings.node}"  # a box that is in no fleet is told so here
    remedy = f"{token} on the box of lmxd fleet init, then lmxd fleet join here"
    return LmxdError("config", f"this box has no usable certificate as {role}: {missing}: {reason}", remedy)
