"""Each key of the gateway is a user of its own: with its name, its weight, its limits and its highest class."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from daemon.test_access import ANNA, GATEWAY, MEMBERS, Become, become, system_wide
from devices.fake_nvml import FakeNvml
from house import House, card, model

from gateway.front import opened, read_until
from gateway.test_serving import ONE
from lmxd.cli.main import main
from lmxd.config import keys
from lmxd.config.file import parse
from lmxd.daemon.rules import max_priority, unknown_keys
from lmxd.errors import LmxdError

assert become


def house(tmp_path: Path, **sections: Any) -> House:
    sections.setdefault("models", {"a": ONE | {"slots": 4}, "b": ONE})
    return House(tmp_path, FakeNvml(card()), **sections)


async def said(h: House, *words: str) -> str:
    """What a command of lmxctl writes."""
    found = await asyncio.to_thread(
        CliRunner().invoke, main, ["--socket", str(h.where.socket), *words], terminal_width=80
    )
    assert found.exit_code == 0, found.output
    return str(found.output)


async def test_who_waits_and_who_holds_are_seen_by_the_name_of_their_key(tmp_path: Path) -> None:
    model(tmp_path, "a", token_seconds=0.05)
    async with opened(house(tmp_path)) as front, front.stream("a", 400) as first:
        await read_until(first, "data:")
        waiting = asyncio.create_task(front.ask("/v1/chat/completions", {"model": "b"}, **{"X-Api-Key": front.key}))
        await front.until(lambda: len(front.house.state.queue) == 1)
        (ticket,) = front.house.state.tickets
        (lease,) = front.house.state.leases
        assert "key user" in await said(front.house, "queue")
        assert f"{lease} (key user)" in await said(front.house, "ps")
        assert f"{lease} of key user is granted on a#1" in await said(front.house, "explain", lease)
        (shown,) = json.loads(await said(front.house, "queue", "--json"))["tickets"]
        assert (shown["ticket"], shown["user"]) == (ticket, "user")
        board = await front.ask("/lmxd/state", None, "GET", Authorization=f"Bearer {front.admin}")
        whole = json.loads(board.text)
        assert [each["user"] for each in whole["queue"]] == ["key user"]
        assert [each["users"] for each in whole["instances"]] == [["key user"]]
        waiting.cancel()


async def test_a_key_has_limits_of_its_own(tmp_path: Path) -> None:
    model(tmp_path, "a", token_seconds=0.05)
    limits = {"user": {"max_leases": 1, "max_waiting": 0}}
    async with opened(house(tmp_path, keys=limits)) as front, front.stream("a", 400) as first:
        await read_until(first, "data:")
        refused = await front.chat("a")
        assert refused.status == 429
        error = json.loads(refused.text)["error"]
        assert error["code"] == "too_many_waiting"
        assert "key user has 0 requests waiting" in error["message"]
        body = {"model": "a", "messages": []}
        other = await front.ask("/v1/chat/completions", body, Authorization=f"Bearer {front.admin}")
        assert other.status == 200, "another key has the instance's other slots"


async def test_a_wait_for_ones_own_limit_names_what_would_help(tmp_path: Path) -> None:
    model(tmp_path, "a", token_seconds=0.05)
    here = house(tmp_path, keys={"user": {"max_leases": 1}})
    async with opened(here, wait=1) as front, front.stream("a", 400) as first:
        await read_until(first, "data:")
        error = json.loads((await front.chat("a")).text)["error"]
        assert error["code"] == "wait_expired"
        assert "key user has 1 of at most 1 leases" in error["message"]
        assert "have max_leases in keys: raised" in error["message"]
        assert "end a#1" not in error["message"], "which holds up nobody"


async def test_a_stream_that_waits_for_a_limit_names_no_instance_for_it(tmp_path: Path) -> None:
    model(tmp_path, "a", token_seconds=0.05)
    here = house(tmp_path, keys={"user": {"max_leases": 1}})
    async with opened(here) as front, front.stream("a", 400) as first:
        await read_until(first, "data:")
        async with front.stream("a", 5) as second:
            told = await read_until(second, "queued")
            assert 'why="key user has 1 of at most 1 leases"' in told
            assert "instances=" not in told


async def test_a_reload_changes_limits_at_once(tmp_path: Path) -> None:
    model(tmp_path, "a", token_seconds=0.05)
    async with opened(house(tmp_path, keys={"default": {"max_leases": 1}})) as front, front.stream("a", 400) as first:
        await read_until(first, "data:")
        second = asyncio.create_task(front.chat("a"))
        await front.until(lambda: len(front.house.state.queue) == 1)
        front.house.write(keys={"default": {"max_leases": 1}, "user": {"max_leases": 2}})
        await front.house.daemon.reload()
        assert (await second).status == 200


async def test_the_class_of_a_request_is_bounded_by_its_key(tmp_path: Path) -> None:
    limits = {"user": {"max_priority": 5}, "default": {"max_priority": -1}}
    async with opened(house(tmp_path, keys=limits)) as front:
        assert (await front.ask("/v1/chat/completions", {"model": "a"}, **{"X-Lmxd-Priority": "5"})).status == 200
        for wanted, key, status, why in (
            ("6", front.key, 403, "priority is 6, but key user may ask for 5 at most"),
            ("1", front.admin, 403, "priority is 1, but key root may ask for 0 at most"),
            ("high", front.key, 400, "X-Lmxd-Priority is high"),
            ("1e3", front.key, 400, "X-Lmxd-Priority is 1e3"),
            ("101", front.key, 400, "give a whole number from -100 to 100"),
        ):
            headers = {"X-Lmxd-Priority": wanted, "Authorization": f"Bearer {key}"}
            refused = await front.ask("/v1/chat/completions", {"model": "a"}, **headers)
            assert (refused.status, why in refused.text) == (status, True), refused.text


async def test_a_higher_class_is_served_first(tmp_path: Path) -> None:
    model(tmp_path, "a", token_seconds=0.05)
    admission = {"preempt": False, "aging": 1000}
    here = house(tmp_path, keys={"user": {"max_priority": 1}}, admission_control=admission)
    async with opened(here) as front, front.stream("a", 60) as first:
        await read_until(first, "data:")
        asked = []
        for wanted in ("-1", "0", "1"):
            ask = front.ask("/v1/chat/completions", {"model": "b"}, **{"X-Lmxd-Priority": wanted})
            asked.append(asyncio.create_task(ask))
            await front.until(lambda: len(here.state.queue) == len(asked))
        assert [ticket.ask.priority for ticket in here.state.queue] == [1, 0, -1]
        await first.read()
        assert {answer.status for answer in await asyncio.gather(*asked)} == {200}


async def test_without_a_key_nobody_asks_for_a_higher_class(tmp_path: Path) -> None:
    """The gateway may run as an administrator of lmxd, who may ask for any."""
    async with opened(house(tmp_path), anonymous=True) as front:
        for wanted, status in (("1", 403), ("0", 200), ("-3", 200)):
            headers = {"Authorization": "", "X-Lmxd-Priority": wanted}
            assert (await front.ask("/v1/chat/completions", {"model": "a"}, **headers)).status == status


async def test_nobody_but_the_gateway_names_a_key(tmp_path: Path, become: Become) -> None:
    """Neither to have its class, nor for its limits, nor to have its models end."""
    async with house(tmp_path, keys={"alice": {"max_priority": 50}}).open() as h:
        system_wide(h)
        h.daemon.access.gateway = GATEWAY
        become(ANNA, MEMBERS)
        async with h.client() as rogue:
            for call in (
                rogue.request("a", user="alice"),
                rogue.request("a", user="alice", priority=50),
                rogue.request("a", user="anybody", wait=0),
                rogue.keep_alive("a", seconds=0, user="alice"),
            ):
                with pytest.raises(LmxdError, match=f"uid {ANNA} may not ask for") as refused:
                    await call
                assert refused.value.code == "not_permitted"
            with pytest.raises(LmxdError, match=f"uid {ANNA} may ask for 0 at most"):
                await rogue.request("a", priority=50)
        assert not h.state.shares.by_user
        become(GATEWAY, MEMBERS)
        async with h.client() as trusted:
            assert (await trusted.request("a", user="alice", priority=50)).instance == "a#1"
            with pytest.raises(LmxdError, match="key alice may ask for 50 at most"):
                await trusted.request("a", user="alice", priority=51)


async def test_a_lease_is_its_keys_after_a_restart(tmp_path: Path) -> None:
    here = house(tmp_path, keys={"alice": {"max_leases": 1}})
    async with here.open(stays=True), here.client() as lmxd:
        lease = await lmxd.request("a", user="alice", hold="explicit")
        await here.until(lambda: any(row.id == lease.lease for row in here.saved().leases))
    async with here.open(), here.client() as lmxd:
        (instance,) = (await lmxd.instances()).instances
        assert [(x.lease, x.user) for x in instance.leases] == [(lease.lease, "alice")]
        with pytest.raises(LmxdError, match="key alice has 1 of at most 1 leases"):
            await lmxd.request("a", user="alice", wait=0)
        assert await lmxd.request("a", user="bob", wait=0)


async def test_a_key_that_nobody_has_is_named_at_the_start_and_by_a_reload(tmp_path: Path) -> None:
    path = tmp_path / "gateway.keys"
    keys.add(path, "alice", admin=False)
    named: dict[str, Any] = {"alice": None, "alise": {"weight": 2}, "default": {"weight": 1}}
    here = house(tmp_path, keys=named, gateway={"keys_file": str(path)})
    async with here.open(), here.client() as lmxd:
        warnings = (await lmxd.status()).warnings
        assert f"keys.alise: there is no key of that name in {path}" in warnings
        assert not [warning for warning in warnings if "keys.alice" in warning or "keys.default" in warning]
        keys.add(path, "alise", admin=False)
        assert not [warning for warning in (await here.daemon.reload()).warnings if "keys." in warning]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("keys: {alice: {}}", "gateway.keys_file is not set"),
        ("{keys: {alice: {}}, gateway: {keys_file: /nowhere/k}}", "cannot be seen"),
        ("{keys: {default: {}}, gateway: {keys_file: /nowhere/k}}", ""),
        ("gateway: {keys_file: /nowhere/k}", ""),
    ],
)
def test_a_file_of_keys_that_is_not_there_is_no_error(text: str, why: str) -> None:
    found = "\n".join(unknown_keys(parse(text, "test")))
    assert (why in found, bool(found)) == (True, bool(why))


def test_a_key_has_no_holds_and_no_negative_weight() -> None:
    for entry in ("{max_holds: 3}", "{weight: 0}", "{weight: -1}", "{max_leases: -1}", "{max_priority: 101}"):
        with pytest.raises(LmxdError, match=r"keys\.alice\."):
            parse(f"keys: {{alice: {entry}}}", "test")


def test_the_highest_class_of_a_key_is_its_own_or_that_of_all_keys_or_that_of_the_gateways_user() -> None:
    text = "{users: {'7': {max_priority: 3}}, keys: {alice: {max_priority: 9}, ben: {}, default: {max_priority: 4}}}"
    whole = parse(text, "test")
    assert [max_priority(whole, (7, name)) for name in ("", "alice", "ben", "cora")] == [3, 9, 3, 4]


def test_no_key_is_called_as_all_of_them(tmp_path: Path) -> None:
    with pytest.raises(LmxdError, match="it stands for all others"):
        keys.add(tmp_path / "k", "default", admin=False)
