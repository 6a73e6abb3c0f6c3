"""The authority at work: it takes members in by tokens, renews their certificates, and knows them all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from lmxd.errors import LmxdError
from lmxd.fleet.addresses import host_and_port
from lmxd.fleet.authority.certificates import Authority, key_hash, validity
from lmxd.fleet.authority.roll import Enrolled, Roll
from lmxd.fleet.authority.tokens import LIFETIME, TokenFiles, TokenOffer
from lmxd.fleet.members import Member, MemberRole, is_of_members
from lmxd.fleet.names import NODE


class Office:
    """The work of an authority, whose ``directory`` has its key, the roll and the tokens.

    ``clock``: seconds since 1970.
    """

    def __init__(self, certificate: Path, directory: Path, clock: Callable[[], float] = time.time) -> None:
        """LmxdError ``config`` if this is not the box of the authority."""
        try:
            self.authority = Authority(certificate.read_bytes(), (directory / "ca.key").read_bytes())
        except (OSError, ValueError) as error:
            reason = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
            remedy = "do this on the box of lmxd fleet init, and as root unless it is --user's"
            raise LmxdError("config", f"the fleet's authority cannot be used: {reason}", remedy) from error
        self.roll, self.tokens = Roll(directory / "members"), TokenFiles(directory / "tokens")
        self._clock = clock

    def offer(self, roles: frozenset[MemberRole], name: str | None) -> bytes:
        """The secret of a new token for these roles. ``name``: the box that it is for, if it is for that one alone."""
        now = self._clock()
        return self.tokens.issue(TokenOffer(roles=tuple(sorted(roles)), name=name, until=now + LIFETIME), now)

    def join(
        self, secret: bytes, name: str, requests: Mapping[MemberRole, bytes], *, address: str = "", cluster: str = ""
    ) -> dict[MemberRole, bytes]:
        """The certificates of a new box, which has used up its token.

        ``requests``: a CSR for each role of the token. ``address``, ``cluster``: as of ``Enrolled``, for a broker.
        LmxdError: ``not_permitted``, ``invalid_params``.
        """
        offer = self.tokens.look(secret, self._clock())
        if set(offer.roles) != set(requests):
            what = f"the token is for {' and '.join(offer.roles)}"
            raise LmxdError("invalid_params", what, "ask for a certificate of each role of the token")
        if offer.name not in (None, name):
            raise LmxdError("not_permitted", f"the token is for {offer.name}, not for {name}", f"--node {offer.name}")
        if MemberRole.BROKER in offer.roles and not (address and cluster):
            raise LmxdError("invalid_params", "a broker must say where it is", "lmxd fleet join --address HOST")
        made = {role: self._made(role, name, csr, address, cluster) for role, csr in requests.items()}
        if offer.name is None:
            for entry, _ in made.values():
                self.roll.require_free(entry.member)  # a token that finds it taken is as good as before
        self.tokens.redeem(secret)
        for entry, _ in made.values():
            self.roll.enroll(entry, instead=offer.name is not None)
        return {role: certificate for role, (_, certificate) in made.items()}

    def enroll(self, role: MemberRole, name: str, request: bytes, *, address: str = "", cluster: str = "") -> bytes:
        """The certificate of a member of the authority's own box, which needs no token."""
        entry, certificate = self._made(role, name, request, address, cluster)
        self.roll.enroll(entry)
        return certificate

    def renew(self, member: Member, request: bytes) -> bytes:
        """Another certificate for a member that has shown its present one. LmxdError ``not_permitted``."""
        known = self.roll.require(member)
        entry, certificate = self._made(member.role, member.name, request, known.address, known.cluster)
        self.roll.renew(entry)
        return certificate

    def _made(self, role: MemberRole, name: str, request: bytes, address: str, cluster: str) -> tuple[Enrolled, bytes]:
        """An entry of the roll, and its certificate. Only a broker's has the names of its box: servers ask for them."""
        if not NODE.fullmatch(name):
            what = f"{ascii(name)[:80]} is no name of a box"
            raise LmxdError("invalid_params", what, "--node with up to 63 of a-z, 0-9 and -, for instance n1")
        member = Member(fleet=self.authority.fleet, role=role, name=name)
        is_broker = role is MemberRole.BROKER
        hosts = sorted({_host(x) for x in (address, cluster) if x}) if is_broker else []
        certificate = self.authority.sign(request, member, hosts=hosts)
        entry = Enrolled(
            fleet=self.authority.fleet,
            role=role,
            name=name,
            key=key_hash(certificate),
            expires=validity(certificate)[1],
            address=address if is_broker else "",
            cluster=cluster if is_broker else "",
        )
        return entry, certificate


def _host(address: str) -> str:
    """The host of a broker's HOST:PORT. LmxdError ``invalid_params``, also for the name of a member.

    Its certificate has it: with another member's name, it would pass for that.
    """
    try:
        host, _ = host_and_port(address)
    except ValueError as error:
        raise LmxdError("invalid_params", f"{ascii(address)[:80]} is no address", str(error)) from error
    if is_of_members(host):
        raise LmxdError("invalid_params", f"{host} is the name of a member", "say another --address")
    return host
