"""SIGHUP at a fleet's gateway: users and keys are read anew, and nothing that is under way ends."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fleet_boxes import Boxes, boxes
from waiting import wait_until

from lmxd.config import keys

SLOW: dict[str, Any] = {"m": {"play": {"token_seconds": 0.05}, "slots": 4}}
READ = "users read from"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Boxes]:
    with boxes(tmp_path_factory.mktemp("fleet"), {"n1": SLOW}) as found:
        yield found


def reloaded(fleet: Boxes, **said: Any) -> None:
    """Write some keys of fleet.yaml, and have the gateway read it."""
    home, gateway = fleet.gateway.home, fleet.gateway
    text = json.loads(home.config.read_text())
    home.config.write_text(json.dumps(text | said))
    before = gateway.said(READ) + gateway.said("in force stay")
    gateway.process.send_signal(signal.SIGHUP)
    wait_until(lambda: gateway.said(READ) + gateway.said("in force stay") > before)


def refused(fleet: Boxes, key: str) -> str:
    """Why a request is refused that would not wait; empty if it is served."""
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    with fleet.gateway.client(key) as client:
        answer = client.post("/v1/chat/completions", json=body, headers={"Prefer": "wait=0"}).json()
    return str(answer["error"]["message"]) if "error" in answer else ""


def test_users_count_anew_and_streams_go_on(fleet: Boxes) -> None:
    key = fleet.gateway.key_of("ada")
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": 100}
    with fleet.gateway.client(key) as client, client.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = answer.iter_lines()
        assert next(lines)
        assert refused(fleet, key) == ""
        reloaded(fleet, users={"ada": {"max_leases": 0}})
        assert "0 of at most 0 leases" in refused(fleet, key)
        assert '"finish_reason": "stop"' in "".join(lines), "what was let in before is answered to its end"
    reloaded(fleet, users={})
    assert refused(fleet, key) == ""


def test_one_that_waits_is_let_in_by_a_limit_that_was_raised(fleet: Boxes) -> None:
    key = fleet.gateway.key_of("bob")
    reloaded(fleet, users={"bob": {"max_leases": 1}})
    long = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": 10_000}
    with (
        ThreadPoolExecutor() as threads,
        fleet.gateway.client(key) as client,
        client.stream("POST", "/v1/chat/completions", json=long),
    ):
        second = threads.submit(
            lambda: client.post("/v1/chat/completions", json=long | {"stream": False, "max_tokens": 1})
        )
        wait_until(lambda: waiting(fleet) == {"bob": 1})
        assert client.get("/lmxd/state").json()["held"] == 1, "no node counts it"
        reloaded(fleet, users={"bob": {"max_leases": 2}})
        assert second.result().status_code == 200
        assert waiting(fleet) == {"bob": 0}


def waiting(fleet: Boxes) -> dict[str, int]:
    """The requests that wait of each user whom an administrator sees on the dashboard, of those who have any."""
    file = fleet.gateway.home.settings.gateway.keys_file
    assert file is not None
    with fleet.gateway.client(keys.add(file, "root", admin=True)) as client:
        users = client.get("/lmxd/state").json()["users"]
    return {user["user"]: user["waiting"] for user in users if user["leases"] or user["waiting"]}


def test_a_bad_file_leaves_the_users_as_they_were(fleet: Boxes) -> None:
    key = fleet.gateway.key_of("eve")
    reloaded(fleet, users={"eve": {"max_leases": 0}})
    reloaded(fleet, users={"eve": {"max_leases": "many"}})
    assert fleet.gateway.said("the users in force stay: ") == 1
    assert fleet.gateway.said("users.eve.max_leases is 'many'") == 1
    assert "0 of at most 0 leases" in refused(fleet, key)
    reloaded(fleet, users={"nobody": {"weight": 2}})
    assert refused(fleet, key) == ""
    said = "users.nobody: there is no key of that name here (lmxd fleet key nobody makes it)"
    assert fleet.gateway.said(said) == 1


def test_what_a_reload_does_not_change_is_said(fleet: Boxes) -> None:
    section = json.loads(fleet.gateway.home.config.read_text())["gateway"]
    reloaded(fleet, gateway=section | {"wait": 7}, labels={"rack": "2"})
    for key in ("labels", "gateway.wait"):
        assert fleet.gateway.said(f"{key} of fleet.yaml takes effect when the gateway is restarted") == 1
    reloaded(fleet, gateway=section, labels={})
