"""A box asks its fleet's authority: for its first certificates, for newer ones, and a broker for the roll."""

from __future__ import annotations

import hashlib
import http.client
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from lmxd.errors import EXIT_STATUS, LmxdError
from lmxd.fleet import joining_messages as messages
from lmxd.fleet.addresses import host_and_port
from lmxd.fleet.authority.certificates import fleet_of, requested
from lmxd.fleet.join_word import JoinWord
from lmxd.fleet.members import MemberRole, any_host
from lmxd.fleet.reading import read

_PATIENCE: Final = 40.0
"""Seconds for one answer, which a broker may wait for."""
_REMEDY: Final = "see whether lmxd fleet broker runs there, and knows this box: lmxd fleet members"
_LARGEST: Final = 16 * 2**20
"""Bytes of an answer: the roll of tens of thousands of members."""
_AnswerT = TypeVar("_AnswerT", bound=msgspec.Struct)


class AuthorityClient:
    """Asks the authority. ``name``: the host name that its certificate must have; None for any."""

    def __init__(self, address: str, context: ssl.SSLContext, name: str | None) -> None:
        self._address, self._context, self._name = address, context, name

    def get(self, path: str) -> tuple[Mapping[str, str], bytes]:
        """Headers and body of an answer. LmxdError as ``post``."""
        return self._asked("GET", path, None)

    def post(self, path: str, message: msgspec.Struct, kind: type[_AnswerT]) -> _AnswerT:
        """The answer to a message. LmxdError: the authority's own, ``daemon_unavailable`` or ``bad_answer``."""
        _, body = self._asked("POST", path, msgspec.json.encode(message))
        try:
            return read(body, kind)
        except ValueError as error:
            raise LmxdError("bad_answer", f"{self._address} answers with something else", "update lmxd") from error

    def _asked(self, method: str, path: str, body: bytes | None) -> tuple[Mapping[str, str], bytes]:
        host, port = host_and_port(self._address)
        connection = http.client.HTTPSConnection(host, port, timeout=_PATIENCE, context=self._context)
        try:
            plain = socket.create_connection((host, port), timeout=_PATIENCE)
            connection.sock = self._context.wrap_socket(plain, server_hostname=self._name)
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            found = answer.read(_LARGEST)
        except ssl.SSLCertVerificationError as error:
            what = f"{self._address} is not the authority of this fleet: {error.verify_message}"
            raise LmxdError("not_permitted", what, "look at its address, and at the clocks of both boxes") from error
        except (OSError, http.client.HTTPException) as error:
            what = f"the authority at {self._address} does not answer: {getattr(error, 'strerror', None) or error}"
            raise LmxdError("daemon_unavailable", what, _REMEDY) from error
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise _refusal(self._address, answer.status, found)
        return dict(answer.headers), found


@dataclass(frozen=True, kw_only=True)
class Joined:
    """A box that has joined: the authority's certificate and its own (PEM, by role), and where brokers are."""

    fleet: str
    authority: bytes
    certificates: Mapping[MemberRole, bytes]
    brokers: tuple[str, ...]


def authority_of(word: JoinWord) -> bytes:
    """The certificate (PEM) of the authority that a token vouches for. LmxdError.

    Whoever answers is asked, and believed if the token has the hash of what it says.
    """
    unknown = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unknown.check_hostname, unknown.verify_mode = False, ssl.CERT_NONE
    _, found = AuthorityClient(word.address, unknown, None).get(messages.AUTHORITY_PATH)
    try:
        if hashlib.sha256(ssl.PEM_cert_to_DER_cert(found.decode())).digest() == word.authority:
            return found
    except ValueError:
        pass
    what = f"{word.address} is not the authority that the token is of"
    raise LmxdError("not_permitted", what, "ask for another token; somebody else may answer at that address")


def join(
    word: JoinWord, authority: bytes, name: str, keys: Mapping[MemberRole, bytes], *, address: str, cluster: str
) -> Joined:
    """Join with a private key (PEM) for each role of the token. LmxdError. The keys go nowhere."""
    context, fleet = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), fleet_of(authority)
    context.load_verify_locations(cadata=authority.decode())
    request = messages.JoinRequest(
        secret=word.secret.hex(),
        name=name,
        requests={role: requested(key).decode() for role, key in keys.items()},
        address=address,
        cluster=cluster,
    )
    client = AuthorityClient(word.address, context, any_host(fleet, MemberRole.BROKER))
    answer = client.post(messages.JOIN_PATH, request, messages.JoinAnswer)
    return Joined(
        fleet=fleet,
        authority=authority,
        certificates={role: pem.encode() for role, pem in answer.certificates.items()},
        brokers=tuple(answer.brokers),
    )


def _refusal(address: str, status: int, body: bytes) -> LmxdError:
    try:
        said = read(body, messages.JoiningError)
    except ValueError:
        return LmxdError(
            "bad_answer", f"{address} answers with HTTP {status}", "see the log of lmxd fleet broker there"
        )
    code = said.code if said.code in EXIT_STATUS else "internal"
    return LmxdError(code, said.message, said.remedy)
