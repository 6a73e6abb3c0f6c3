"""Certificates of a fleet, and TLS between members of it."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fleet_home import box

from lmxd.errors import LmxdError
from lmxd.fleet.authority.certificates import Authority, fingerprint, new_key, requested, validity
from lmxd.fleet.home import FleetHome
from lmxd.fleet.members import Member, MemberRole, any_host, member_of, parsed_uri
from lmxd.fleet.tls import client_context, server_context


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.new("home")


def agreed(server: FleetHome, client: FleetHome, name: str) -> tuple[Member | None, Member | None]:
    """A door of a node and a gateway agree on TLS in memory. Returns whom each sees: client's view, server's view."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    outer = client_context(client, MemberRole.GATEWAY).wrap_bio(back, there, server_hostname=name)
    inner = server_context(server, MemberRole.NODE).wrap_bio(there, back, server_side=True)
    waiting: list[ssl.SSLObject] = [outer, inner]
    for _ in range(10):
        for each in list(waiting):
            try:
                each.do_handshake()
                waiting.remove(each)
            except ssl.SSLWantReadError:
                pass
    assert not waiting
    return member_of(outer.getpeercert()), member_of(inner.getpeercert())


def test_both_sides_see_who_the_other_is(authority: Authority, tmp_path: Path) -> None:
    node, gateway = (
        box(authority, tmp_path / "a", "n1", [MemberRole.NODE]),
        box(authority, tmp_path / "b", "g1", [MemberRole.GATEWAY]),
    )
    n1, g1 = node.member(MemberRole.NODE), gateway.member(MemberRole.GATEWAY)
    assert agreed(node, gateway, n1.host) == (n1, g1)
    assert agreed(node, gateway, any_host("home", MemberRole.NODE)) == (n1, g1)


def test_no_node_passes_for_another_one(authority: Authority, tmp_path: Path) -> None:
    node, gateway = (
        box(authority, tmp_path / "a", "n2", [MemberRole.NODE]),
        box(authority, tmp_path / "b", "g1", [MemberRole.GATEWAY]),
    )
    for name in (Member(fleet="home", role=MemberRole.NODE, name="n1").host, any_host("home", MemberRole.BROKER)):
        with pytest.raises(ssl.SSLCertVerificationError, match="match"):
            agreed(node, gateway, name)


def test_another_authority_of_the_same_name_counts_for_nothing(authority: Authority, tmp_path: Path) -> None:
    node = box(authority, tmp_path / "a", "n1", [MemberRole.NODE])
    rogue = box(Authority.new("home"), tmp_path / "b", "g1", [MemberRole.GATEWAY])
    with pytest.raises(ssl.SSLCertVerificationError):
        agreed(node, rogue, node.member(MemberRole.NODE).host)
    rogue.ca.write_bytes(authority.certificate)  # it knows ours, but has no certificate of it
    with pytest.raises(ssl.SSLError, match="verify failed"):
        agreed(node, rogue, node.member(MemberRole.NODE).host)


def test_a_certificate_ends(authority: Authority, tmp_path: Path) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=100)
    node = box(authority, tmp_path / "a", "n1", [MemberRole.NODE], now=long_ago)
    gateway = box(authority, tmp_path / "b", "g1", [MemberRole.GATEWAY])
    assert validity(node.certificate(MemberRole.NODE).read_bytes())[1] < datetime.now(UTC).timestamp()
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        agreed(node, gateway, node.member(MemberRole.NODE).host)


def test_what_a_request_says_of_names_does_not_count(authority: Authority) -> None:
    member = Member(fleet="home", role=MemberRole.NODE, name="n1")
    with pytest.raises(LmxdError, match="cannot be read"):
        authority.sign(b"no request", member)
    changed = bytearray(requested(new_key()))
    changed[150] ^= 1
    with pytest.raises(LmxdError):
        authority.sign(bytes(changed), member)


def test_an_authority_is_read_again(authority: Authority) -> None:
    again = Authority(authority.certificate, authority.key)
    assert again.fleet == "home"
    assert fingerprint(again.certificate) == fingerprint(authority.certificate)
    assert fingerprint(Authority.new("home").certificate) != fingerprint(authority.certificate)


@pytest.mark.parametrize(
    "uri",
    ["lmxd://home/node/", "lmxd://home/king/n1", "lmxd://home/node/n1/x", "http://home/node/n1", "lmxd://h/node/N"],
)
def test_a_uri_that_names_nobody(uri: str) -> None:
    assert parsed_uri(uri) is None
    assert member_of({"subjectAltName": (("URI", uri),)}) is None


def test_a_certificate_of_two_names_names_nobody() -> None:
    one, two = ("URI", "lmxd://home/node/n1"), ("URI", "lmxd://home/node/n2")
    assert member_of({"subjectAltName": (one,)}) == Member(fleet="home", role=MemberRole.NODE, name="n1")
    assert member_of({"subjectAltName": (one, two)}) is None
    assert member_of(None) is None
