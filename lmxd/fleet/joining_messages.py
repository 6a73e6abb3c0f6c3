"""Messages between a box and the authority, as JSON over HTTPS."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from lmxd.fleet.members import MemberRole

AUTHORITY_PATH: Final = "/fleet/authority"
"""GET: the authority's certificate, which a token vouches for."""
JOIN_PATH: Final = "/fleet/join"
RENEW_PATH: Final = "/fleet/renew"
ROLL_PATH: Final = "/fleet/roll"
"""GET, for brokers: all members; with ``?known=`` the version that is known, when there is another one."""
VERSION_HEADER: Final = "X-Lmxd-Version"
LARGEST: Final = 64 * 2**10
"""Bytes of a request."""
_Pem = Annotated[str, Meta(max_length=4096)]
_Address = Annotated[str, Meta(max_length=300)]


class JoinRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A box asks to join. ``secret``: the token's, in hexadecimal digits. ``requests``: a CSR for each of its roles.

    ``address``, ``cluster``: HOST:PORT of a broker, for members and for other brokers.
    """

    secret: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
    name: Annotated[str, Meta(max_length=63)]
    requests: dict[MemberRole, _Pem]
    address: _Address = ""
    cluster: _Address = ""


class JoinAnswer(msgspec.Struct, kw_only=True):
    """A box has joined. ``certificates``: PEM, by role. ``brokers``: HOST:PORT of each."""

    fleet: str
    certificates: dict[MemberRole, str]
    brokers: list[str]


class RenewRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A member asks for a newer certificate. ``request``: a CSR, by the key of the one that it shows."""

    request: _Pem


class RenewAnswer(msgspec.Struct, kw_only=True):
    """The newer certificate, as PEM."""

    certificate: str


class JoiningError(msgspec.Struct, kw_only=True):
    """An error, in lmxd's own terms."""

    code: str
    message: str
    remedy: str = ""
