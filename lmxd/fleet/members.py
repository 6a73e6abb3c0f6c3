"""Members of a fleet: each has one role under one name, and its certificate says so."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from lmxd.fleet.names import NODE

_URI: Final = re.compile(rf"lmxd://({NODE.pattern})/([a-z]+)/({NODE.pattern})")
_DOMAIN: Final = "lmxd.internal"
"""Names under it are in no DNS (ICANN keeps .internal for private use): only the fleet's authority gives them out."""

_OF_KEY: Final = 32
"""Digits of a key's hash in a label of DNS: nobody finds another key with the same 128 bits."""


class MemberRole(StrEnum):
    """The part that a member takes in its fleet. Each process has the certificate of one role."""

    NODE = "node"
    GATEWAY = "gateway"
    OPERATOR = "operator"
    BROKER = "broker"


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A member of a fleet, as its certificate names it."""

    fleet: str
    role: MemberRole
    name: str

    @property
    def uri(self) -> str:
        """The URI in the certificate."""
        return f"lmxd://{self.fleet}/{self.role}/{self.name}"

    def user(self, key: str) -> str:
        """Its user's name on NATS, which is a host name in the certificate for that ``key``, and in no other.

        ``key``: SHA-256 of the public key, in hexadecimal digits.
        """
        return f"{key[:_OF_KEY]}.{self.host}"

    @property
    def host(self) -> str:
        """The host name in the certificate, which a client asks for to reach no other member at that address."""
        return f"{self.name}.{any_host(self.fleet, self.role)}"

    @property
    def inbox(self) -> str:
        """Subjects on which it hears answers begin so: nobody else may listen there."""
        return f"_INBOX.{self.role}.{self.name}"


def any_host(fleet: str, role: MemberRole) -> str:
    """The host name that the certificates of all members of a role have."""
    return f"{role}.{fleet}.{_DOMAIN}"


def is_of_members(host: str) -> bool:
    """Whether a host name may be that of a member, and so is none of a box."""
    return f".{host.lower()}".endswith(f".{_DOMAIN}")


def parsed_uri(uri: str) -> Member | None:
    """The member that a URI names; None if it names none."""
    found = _URI.fullmatch(uri)
    if found is None or found[2] not in list(MemberRole):
        return None
    return Member(fleet=found[1], role=MemberRole(found[2]), name=found[3])


def member_of(certificate: Mapping[str, Any] | None) -> Member | None:
    """The member that a verified certificate names. ``certificate``: as SSLObject.getpeercert() returns it.

    None if there is none, or if it names nobody or several.
    """
    names = (certificate or {}).get("subjectAltName", ())
    uris = [value for kind, value in names if kind == "URI"]
    return parsed_uri(uris[0]) if len(uris) == 1 else None
