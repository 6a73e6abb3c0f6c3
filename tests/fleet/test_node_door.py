"""A node's door: the fleet's gateways come in by certificate, for the user whom they name, and nobody else does."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from fleet_home import box
from fleet_node import Node
from free_ports import free_address
from house import fake_engine, model
from lmxd_process import Lmxd
from waiting import wait_until

from lmxd.fleet import clock
from lmxd.fleet.authority.certificates import Authority
from lmxd.fleet.members import MemberRole
from lmxd.fleet.names import ALIVE, USED, USER, WAITED, WEIGHT
from lmxd.fleet.tls import client_context
from lmxd.rpc.books import UserInfo

CHAT = {"model": "a", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A node without NATS, two members of its fleet, and one of another fleet."""
    directory = tmp_path_factory.mktemp("door")
    model(directory, "a")
    config = {"model_dir": str(directory), "engine": {"path": str(fake_engine(directory))}, "models": {"a": {}}}
    authority, roles = Authority.new("home"), list(MemberRole)
    home = box(authority, directory / "n1", "n1", [MemberRole.NODE], door=free_address())
    member = box(authority, directory / "g1", "g1", roles)
    stranger = box(Authority.new("home"), directory / "x", "g1", [MemberRole.GATEWAY])
    with Lmxd(directory, config) as lmxd, Node(lmxd, home) as node:
        yield SimpleNamespace(node=node, member=member, stranger=stranger, lmxd=lmxd)


def asked(place: SimpleNamespace, path: str, body: Any = None, **headers: str) -> SimpleNamespace:
    found: SimpleNamespace = place.node.asked_now(path, body, by=place.member, **headers)
    return found


def test_a_gateway_is_served_as_by_the_gateway_of_the_box(place: SimpleNamespace) -> None:
    assert [x["id"] for x in asked(place, "/v1/models").json["data"]] == ["a"]
    answer = asked(place, "/v1/chat/completions", CHAT, **{USER: "ada"})
    assert (answer.status, answer.json["choices"][0]["message"]["role"]) == (200, "assistant")
    assert asked(place, "/api/tags", role="operator").status == 200
    unknown = asked(place, "/v1/chat/completions", CHAT | {"model": "b"})
    assert (unknown.status, unknown.json["error"]["code"]) == (404, "model_not_found")


def test_a_sign_of_life_has_the_time_by_the_clock_of_heartbeats(place: SimpleNamespace) -> None:
    before = clock.now()
    assert before <= asked(place, ALIVE).json["now"] <= clock.now()
    assert asked(place, ALIVE, role="node").status == 403


def test_a_lease_is_for_the_user_whom_the_gateway_names(place: SimpleNamespace) -> None:
    async def both() -> list[str | None]:
        body = CHAT | {"max_tokens": 20_000, "stream": True}  # a stream takes 5 ms a token
        slow = place.node.ask("/v1/chat/completions", body, by=place.member, **{USER: "bob"})
        asking = asyncio.get_running_loop().create_task(slow)
        found: list[str | None] = []
        while "bob" not in found and not asking.done():  # the lease of who asked before may linger
            shown = await asyncio.to_thread(place.lmxd.instances)
            found = [lease.user for i in shown.values() for lease in i.leases if lease.user]
        asking.cancel()
        return found

    assert "bob" in asyncio.run(both())


def users_of(lmxd: Lmxd) -> dict[str | None, UserInfo]:
    with lmxd.client() as client:
        return {user.user: user for user in client.status().users}


@pytest.mark.parametrize("role", ["node", "broker"])
def test_another_member_may_not_ask_for_users(place: SimpleNamespace, role: str) -> None:
    forged = {USER: "eve", WEIGHT: "999", USED: "0"}
    answer = asked(place, "/v1/chat/completions", CHAT, role=role, **forged)
    assert (answer.status, answer.json["error"]["code"]) == (403, "not_permitted")
    assert f"lmxd://home/{role}/g1" in answer.json["error"]["message"]
    assert "eve" not in users_of(place.lmxd)
    answer = asked(place, "/v1/models", role=role)
    assert (answer.status, answer.json["error"]["code"]) == (403, "not_permitted")


@pytest.mark.parametrize(("header", "value"), [(USER, "eve"), (WAITED, "9"), (USED, "0"), (WEIGHT, "999")])
def test_an_operator_is_not_believed_what_a_gateway_states(place: SimpleNamespace, header: str, value: str) -> None:
    answer = asked(place, "/v1/chat/completions", CHAT, role="operator", **{header: value})
    assert (answer.status, answer.json["error"]["code"]) == (403, "not_permitted")
    assert f"lmxd://home/operator/g1, which states {header}" in answer.json["error"]["message"]
    assert "eve" not in users_of(place.lmxd)


def test_a_gateway_states_use_elsewhere_and_weight(place: SimpleNamespace) -> None:
    stated = {USER: "ida", USED: "5000000000", WEIGHT: "2.5"}
    assert asked(place, "/v1/chat/completions", CHAT, **stated).status == 200
    assert users_of(place.lmxd)["ida"].use < 5e9, "what it used here alone"


def test_a_certificate_of_another_authority_does_not_come_in(place: SimpleNamespace) -> None:
    theirs = client_context(place.stranger, MemberRole.GATEWAY)
    theirs.load_verify_locations(place.member.ca)
    with pytest.raises((aiohttp.ClientError, OSError)):
        asyncio.run(place.node.asked("/v1/models", None, theirs))


def test_whoever_has_no_certificate_does_not_come_in(place: SimpleNamespace) -> None:
    plain = ssl.create_default_context(cafile=str(place.member.ca))
    with pytest.raises((aiohttp.ClientError, OSError)):
        asyncio.run(place.node.asked("/health", None, plain))


@pytest.mark.parametrize(
    ("header", "value"),
    [
        *((USER, value) for value in ("a b", "x" * 65, "")),
        *((WAITED, value) for value in ("-1", "nan", "1e9")),
        *((USED, value) for value in ("-1", "1.5", "", "9" * 31)),
        *((WEIGHT, value) for value in ("0", "0.0", "000", "-1", "inf", "10000", "", ".5")),
    ],
)
def test_a_header_that_cannot_be_meant_is_named(place: SimpleNamespace, header: str, value: str) -> None:
    answer = asked(place, "/v1/models", **{header: value})
    assert (answer.status, answer.json["error"]["code"]) == (400, "invalid_params")
    assert header in answer.json["error"]["message"]


def test_a_user_is_never_an_administrator(place: SimpleNamespace) -> None:
    asked(place, "/v1/chat/completions", CHAT, **{USER: "root"})
    (running,) = place.lmxd.instances()
    answer = asked(place, "/actions/stop", {"instance": running}, **{USER: "root"})
    assert answer.status in (403, 404)
    assert running in place.lmxd.instances()


def test_nothing_of_a_lease_is_to_be_had_without_its_key(place: SimpleNamespace) -> None:
    for lease in ("l-00000000", "-"):
        answer = asked(place, f"/lease/{lease}/v1/chat/completions", CHAT, Authorization="Bearer x")
        assert (answer.status, answer.json["error"]["code"]) == (401, "not_permitted")


def test_the_door_is_there_again_after_lmxd_was(place: SimpleNamespace, tmp_path: Path) -> None:
    place.lmxd.stop()
    place.lmxd.start()
    assert asked(place, "/v1/chat/completions", CHAT, **{USER: "ada"}).status == 200


def test_a_node_that_is_started_before_lmxd_waits_for_it(place: SimpleNamespace) -> None:
    """And says so, once; told to end meanwhile it ends."""
    place.node.end()
    place.lmxd.stop()
    before = said(place)
    with ThreadPoolExecutor() as pool:
        starting = pool.submit(place.node.start)
        wait_until(lambda: said(place) == before + 1)
        place.lmxd.start()
        starting.result()
    assert asked(place, "/v1/chat/completions", CHAT, **{USER: "ada"}).status == 200
    place.node.end()
    place.lmxd.stop()
    with ThreadPoolExecutor() as pool:
        starting = pool.submit(place.node.start)
        wait_until(lambda: said(place) == before + 2)
        assert place.node.end() == 0
        with pytest.raises(AssertionError):
            starting.result()


def said(place: SimpleNamespace) -> int:
    """How often the node's log has said that it waits."""
    return int(place.node.log.read_text().count("lmxd is waited for"))
