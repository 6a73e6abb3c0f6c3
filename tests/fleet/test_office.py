"""The authority at work: tokens, names and renewals, by a clock that is passed in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lmxd.errors import LmxdError
from lmxd.fleet.authority.certificates import Authority, key_hash, new_key, requested
from lmxd.fleet.authority.office import Office
from lmxd.fleet.authority.tokens import LIFETIME
from lmxd.fleet.join_word import JoinWord
from lmxd.fleet.members import Member, MemberRole

NODE, GATEWAY, BROKER = MemberRole.NODE, MemberRole.GATEWAY, MemberRole.BROKER


@dataclass
class Clock:
    now: float = 1e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def office(tmp_path: Path, clock: Clock) -> Office:
    authority = Authority.new("home")
    (tmp_path / "ca.pem").write_bytes(authority.certificate)
    (tmp_path / "ca.key").write_bytes(authority.key)
    (tmp_path / "members").mkdir()
    (tmp_path / "tokens").mkdir()
    return Office(tmp_path / "ca.pem", tmp_path, clock)


def csr(*roles: MemberRole) -> dict[MemberRole, bytes]:
    return {role: requested(new_key()) for role in roles}


def names(office: Office) -> list[str]:
    return [f"{entry.role} {entry.name}" for entry in office.roll.all()]


def test_a_token_counts_once(office: Office) -> None:
    secret = office.offer(frozenset((NODE,)), None)
    certificates = office.join(secret, "n1", csr(NODE))
    assert [entry.key for entry in office.roll.all()] == [key_hash(certificates[NODE])]
    with pytest.raises(LmxdError, match="was used"):
        office.join(secret, "n2", csr(NODE))
    assert names(office) == ["node n1"]


def test_a_token_counts_for_a_quarter_of_an_hour(office: Office, clock: Clock) -> None:
    late, early = office.offer(frozenset((NODE,)), None), office.offer(frozenset((NODE,)), None)
    clock.now += LIFETIME - 1
    office.join(early, "n1", csr(NODE))
    clock.now += 1
    with pytest.raises(LmxdError, match="older than 15 minutes"):
        office.join(late, "n2", csr(NODE))
    assert names(office) == ["node n1"]


def test_old_tokens_do_not_pile_up(office: Office, clock: Clock, tmp_path: Path) -> None:
    for _ in range(3):
        office.offer(frozenset((NODE,)), None)
    clock.now += LIFETIME
    office.offer(frozenset((NODE,)), None)
    assert len(list((tmp_path / "tokens").iterdir())) == 1


def test_no_file_has_the_secret(office: Office, tmp_path: Path) -> None:
    secret = office.offer(frozenset((NODE,)), None)
    kept = [path.name.encode() + path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(secret in each or secret.hex().encode() in each for each in kept)


def test_a_token_is_for_its_roles_alone(office: Office) -> None:
    secret = office.offer(frozenset((NODE,)), None)
    for roles in ((GATEWAY,), (NODE, GATEWAY), ()):
        with pytest.raises(LmxdError, match="the token is for node"):
            office.join(secret, "n1", csr(*roles))
    office.join(secret, "n1", csr(NODE))
    both = office.offer(frozenset((NODE, GATEWAY)), None)
    assert set(office.join(both, "n2", csr(NODE, GATEWAY))) == {NODE, GATEWAY}


def test_a_name_that_is_taken_costs_no_token(office: Office) -> None:
    office.join(office.offer(frozenset((NODE,)), None), "n1", csr(NODE))
    secret = office.offer(frozenset((NODE,)), None)
    with pytest.raises(LmxdError, match="there is a node n1 already"):
        office.join(secret, "n1", csr(NODE))
    office.join(secret, "n2", csr(NODE))
    assert names(office) == ["node n1", "node n2"]


def test_a_box_that_was_installed_anew_takes_its_own_place(office: Office) -> None:
    before = office.join(office.offer(frozenset((NODE,)), None), "n1", csr(NODE))
    secret = office.offer(frozenset((NODE,)), "n1")
    with pytest.raises(LmxdError, match="the token is for n1, not for n2"):
        office.join(secret, "n2", csr(NODE))
    after = office.join(secret, "n1", csr(NODE))
    assert [entry.key for entry in office.roll.all()] == [key_hash(after[NODE])]
    assert office.roll.removed(0.0) == [key_hash(before[NODE])]


def test_a_key_whose_place_was_taken_is_not_renewed(office: Office) -> None:
    """Whoever has the disk of a box that was installed anew would take its place again."""
    member, key, stolen = Member(fleet="home", role=NODE, name="n1"), new_key(), new_key()
    office.join(office.offer(frozenset((NODE,)), None), "n1", {NODE: requested(stolen)})
    office.join(office.offer(frozenset((NODE,)), "n1"), "n1", {NODE: requested(key)})
    with pytest.raises(LmxdError, match="who has joined anew"):
        office.renew(member, requested(stolen))
    office.renew(member, requested(key))
    assert len(office.roll.removed(0.0)) == 1


@pytest.mark.parametrize("name", ["", "N1", "n.1", "../n", "n1/x", "a" * 64, "-n", "n1\n"])
def test_a_name_that_is_no_name(office: Office, name: str) -> None:
    with pytest.raises(LmxdError, match="no name of a box"):
        office.join(office.offer(frozenset((NODE,)), None), name, csr(NODE))
    assert names(office) == []


def test_a_broker_says_where_it_is(office: Office) -> None:
    secret = office.offer(frozenset((BROKER,)), None)
    with pytest.raises(LmxdError, match="where it is"):
        office.join(secret, "b2", csr(BROKER))
    office.join(secret, "b2", csr(BROKER), address="192.0.2.2:4222", cluster="192.0.2.2:4224")
    assert [entry.cluster for entry in office.roll.all()] == ["192.0.2.2:4224"]


@pytest.mark.parametrize("host", ["n1.node.home.lmxd.internal", "G.LMXD.Internal", "lmxd.internal", "x y", "[::z]"])
@pytest.mark.parametrize("key", ["address", "cluster"])
def test_a_broker_passes_for_no_other_member(office: Office, host: str, key: str) -> None:
    """Its certificate has the names of its box: others ask for a node by its name, and NATS knows a user by it."""
    where = {"address": "b:1", "cluster": "b:2"} | {key: f"{host}:3"}
    with pytest.raises(LmxdError) as raised:
        office.join(office.offer(frozenset((BROKER,)), None), "b1", csr(BROKER), **where)
    assert (raised.value.code, names(office)) == ("invalid_params", [])


def test_who_was_removed_is_not_renewed(office: Office, clock: Clock) -> None:
    member, key = Member(fleet="home", role=NODE, name="n1"), new_key()
    first = office.join(office.offer(frozenset((NODE,)), None), "n1", {NODE: requested(key)})
    again = office.renew(member, requested(key))
    assert key_hash(again) == key_hash(first[NODE])
    assert again != first[NODE]
    office.roll.forget(member)
    with pytest.raises(LmxdError, match="no member any more"):
        office.renew(member, requested(key))
    with pytest.raises(LmxdError, match="there is no node n1"):
        office.roll.forget(member)


@pytest.mark.parametrize("anew", [False, True])
def test_who_is_removed_while_it_renews_stays_so(office: Office, monkeypatch: pytest.MonkeyPatch, anew: bool) -> None:
    """Who may be removed may renew all the while. ``anew``: another box takes its place meanwhile."""
    key, member = new_key(), Member(fleet="home", role=NODE, name="n1")
    office.join(office.offer(frozenset((NODE,)), None), "n1", {NODE: requested(key)})
    sign, others = office.authority.sign, []

    def meanwhile(*said: Any, **more: Any) -> bytes:
        monkeypatch.undo()
        if anew:
            others.append(key_hash(office.join(office.offer(frozenset((NODE,)), "n1"), "n1", csr(NODE))[NODE]))
        else:
            office.roll.forget(member)
        return sign(*said, **more)

    monkeypatch.setattr(office.authority, "sign", meanwhile)
    with pytest.raises(LmxdError) as raised:
        office.renew(member, requested(key))
    assert raised.value.code == "not_permitted"
    assert [entry.key for entry in office.roll.all()] == others
    assert len(office.roll.removed(0)) == 1


def test_a_word_is_read_back() -> None:
    word = JoinWord(
        address="[2001:db8::7]:4223", authority=b"a" * 32, secret=b"s" * 16, roles=frozenset((NODE, BROKER))
    )
    assert JoinWord.parsed(f" {word}\n") == JoinWord.parsed(f"{str(word)[:40]}\n{str(word)[40:]}") == word
    assert "s" * 16 not in repr(word)


def test_a_word_that_is_not_whole_asks_nobody() -> None:
    """Cut short by a digit of its port it would lead to another one."""
    word = str(JoinWord(address="10.0.0.7:4223", authority=b"a" * 32, secret=b"s" * 16, roles=frozenset((NODE,))))
    short = [word[:end] for end in range(5, len(word))]
    swapped = [word[:at] + word[at + 1] + word[at] + word[at + 2 :] for at in range(5, len(word) - 1)]
    mistyped = [word[:at] + ("a" if word[at] != "a" else "b") + word[at + 1 :] for at in range(5, len(word))]
    for wrong in (*short, *(each for each in swapped if each != word), *mistyped, word + "A", "lmxd_@@@@", word + "ÿ"):
        with pytest.raises(LmxdError, match="is not whole: it was cut short, or mistyped"):
            JoinWord.parsed(wrong)
    for wrong, why in (
        ("", "no token was given"),
        ("lmxd-key", "no token of a fleet"),
        (word[1:], "no token of a fleet"),
    ):
        with pytest.raises(LmxdError, match=why) as caught:
            JoinWord.parsed(wrong)
        assert "lmxd fleet token" in caught.value.remedy
