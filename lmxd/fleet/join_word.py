"""A token to join a fleet: one word, which is copied from one terminal to another."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from lmxd.errors import LmxdError
from lmxd.fleet.addresses import host_and_port
from lmxd.fleet.members import MemberRole

_PREFIX: Final = "lmxd_"
_SECRET: Final = 16
"""Random bytes: nobody guesses 128 bits in the minutes that it counts."""
_HASH: Final = 32
_CHECK: Final = 4
"""Bytes at the end, by which one that is cut short or mistyped is found out before anybody is asked."""
_REMEDY: Final = "copy all of the word that lmxd fleet token printed, or have it print another"
_ROLES: Final = tuple(MemberRole)


def new_secret() -> bytes:
    return secrets.token_bytes(_SECRET)


@dataclass(frozen=True, kw_only=True)
class JoinWord:
    """A token. ``address``: HOST:PORT of the authority. ``authority``: SHA-256 of its certificate: no other passes."""

    address: str
    authority: bytes
    secret: bytes
    roles: frozenset[MemberRole]

    def __str__(self) -> str:
        packed = self._packed()
        return f"{_PREFIX}{base64.urlsafe_b64encode(packed + _check(packed)).decode().rstrip('=')}"

    def __repr__(self) -> str:
        return f"JoinWord({self.address!r})"  # the secret is in no log

    def _packed(self) -> bytes:
        return bytes([_bits(self.roles)]) + self.secret + self.authority + self.address.encode()

    @classmethod
    def parsed(cls, word: str) -> JoinWord:
        """The token that a word is, also where it was copied with the end of a line in it.

        LmxdError ``invalid_params``, which does not repeat it.
        """
        said = "".join(word.split())
        if not said.startswith(_PREFIX):
            what = "that is no token of a fleet, which begins with " + _PREFIX if said else "no token was given"
            raise LmxdError("invalid_params", what, _REMEDY)
        packed = _unpacked(said.removeprefix(_PREFIX))
        address = packed[1 + _SECRET + _HASH :].decode()
        secret, authority = packed[1 : 1 + _SECRET], packed[1 + _SECRET : 1 + _SECRET + _HASH]
        roles = frozenset(role for bit, role in enumerate(_ROLES) if packed[0] >> bit & 1)
        return cls(address=address, authority=authority, secret=secret, roles=roles)


def _check(packed: bytes) -> bytes:
    return hashlib.sha256(packed).digest()[:_CHECK]


def _unpacked(body: str) -> bytes:
    """All of a token but its checksum. LmxdError ``invalid_params`` if that is another."""
    try:
        found = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        packed = found[:-_CHECK]
        if _check(packed) == found[-_CHECK:]:
            host_and_port(packed[1 + _SECRET + _HASH :].decode())
            return packed
    except ValueError:  # nor is it base64, or an address
        pass
    raise LmxdError("invalid_params", "the token is not whole: it was cut short, or mistyped", _REMEDY)


def _bits(roles: Iterable[MemberRole]) -> int:
    return sum(1 << _ROLES.index(role) for role in roles)
