"""Requests for which no node has room: they wait at one node, and go to another that has room first."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest
from fleet_boxes import Boxes, boxes
from lmxd_process import Lmxd
from waiting import GENEROUS

from lmxd.fleet.members import MemberRole
from lmxd.fleet.names import ANSWERED_BY


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Boxes]:
    """``m`` is at two nodes, with one slot at each."""
    model = {"m": {"slots": 1, "play": {"token_seconds": 0.02}}}
    with boxes(tmp_path_factory.mktemp("fleet"), {"n1": model, "n2": model}) as found:
        yield found


@contextmanager
def busy(fleet: Boxes, text: str) -> Iterator[str]:
    """A long answer is being written; the node that writes it."""
    body = {"model": "m", "messages": [{"role": "user", "content": text}], "stream": True, "max_tokens": 100_000}
    with fleet.gateway.client() as client, client.stream("POST", "/v1/chat/completions", json=body) as answer:
        assert answer.status_code == 200, answer.read()
        yield answer.headers[ANSWERED_BY]


def waiting_at(fleet: Boxes) -> list[str]:
    """The node of each request that stays in a queue: one that asks to be served at once is seen there, too."""
    found = []
    for name, lmxd in fleet.lmxds.items():
        with lmxd.client() as client:
            found += [name for ticket in client.queue().tickets if ticket.waited > 0.5]
    return found


def moved(fleet: Boxes) -> float:
    """Requests that went from one queue to another node."""
    with fleet.gateway.client() as client:
        lines = client.get("/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("lmxd_fleet_moves_total "))


def test_a_request_that_will_not_wait_is_refused_as_a_node_refuses_it(fleet: Boxes) -> None:
    with busy(fleet, "first"), busy(fleet, "second"):
        answer = fleet.chat(headers={"Prefer": "wait=0"})
        assert answer.status_code == 429
        assert answer.json()["error"]["code"] in ("no_capacity", "wait_expired")
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.headers[ANSWERED_BY] in fleet.nodes


def test_a_request_goes_from_the_queue_of_one_node_to_another_that_has_room(fleet: Boxes) -> None:
    found: list[httpx.Response] = []
    with ExitStack() as first, ExitStack() as second:
        stacks = {each.enter_context(busy(fleet, name)): each for each, name in ((first, "first"), (second, "second"))}
        assert set(stacks) == {"n1", "n2"}
        moves = moved(fleet)
        asked = threading.Thread(target=lambda: found.append(fleet.chat(text="third")))
        asked.start()
        Lmxd.until(lambda: waiting_at(fleet))
        (where,) = waiting_at(fleet)
        (other,) = set(stacks) - {where}
        stacks[other].close()
        asked.join(GENEROUS)
    assert found[0].headers[ANSWERED_BY] == other
    assert moved(fleet) == moves + 1


def test_an_operator_sees_who_waits_where_and_that_others_would_wait_too(fleet: Boxes) -> None:
    desk, found = fleet.broker.box("desk", [MemberRole.OPERATOR]), list[httpx.Response]()

    def lmxctl(*words: str) -> tuple[int, Any]:
        command = [sys.executable, "-m", "lmxd.cli.main", "fleet", "--home", str(desk.state), *words, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=GENEROUS)
        return done.returncode, json.loads(done.stdout)["nodes"]

    with ExitStack() as stack:
        for text in ("first", "second"):
            stack.enter_context(busy(fleet, text))
        asked = threading.Thread(target=lambda: found.append(fleet.chat(text="third")))
        asked.start()
        Lmxd.until(lambda: waiting_at(fleet))
        (where,) = waiting_at(fleet)
        _, queues = lmxctl("queue")
        (ticket,) = queues[where]["tickets"]
        assert (ticket["model"], ticket["user"], ticket["position"]) == ("m", "user", 1)
        assert [queues[name]["tickets"] for name in fleet.nodes if name != where] == [[]]
        status, plans = lmxctl("plan", "m")
        assert status == 75, "it would wait"
        assert {name: plan["outcome"] for name, plan in plans.items()} == dict.fromkeys(fleet.nodes, "queue")
    asked.join(GENEROUS)
    assert found[0].status_code == 200
    status, plans = lmxctl("plan", "m")
    assert (status, {plan["outcome"] for plan in plans.values()}) == (0, {"share"})


def test_a_stream_of_ollama_s_lives_while_it_waits(fleet: Boxes) -> None:
    """By spaces, as from the gateway of one box; an error is its last line."""
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    with ExitStack() as stack:
        stack.enter_context(busy(fleet, "first"))
        held = stack.enter_context(ExitStack())
        held.enter_context(busy(fleet, "second"))
        client = stack.enter_context(fleet.gateway.client())
        with client.stream("POST", "/api/chat", json=body) as answer:
            assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/x-ndjson")
            parts = answer.iter_raw()
            assert next(parts) == b" "
            held.close()
            lines = [json.loads(line) for line in b"".join(parts).splitlines()]
        assert (lines[0]["message"]["role"], lines[-1]["done"]) == ("assistant", True)
        stack.enter_context(busy(fleet, "third"))
        late = client.post("/api/chat", json=body, headers={"Prefer": "wait=3"})
        assert (late.status_code, late.content[:1]) == (200, b" ")
        assert "error" in json.loads(late.content)


def test_a_client_that_leaves_leaves_no_request_in_a_queue(fleet: Boxes) -> None:
    Lmxd.until(lambda: not any(i.leases for lmxd in fleet.lmxds.values() for i in lmxd.instances().values()))
    with busy(fleet, "first"), busy(fleet, "second"):
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
        with fleet.gateway.client() as client, pytest.raises(httpx.ReadTimeout):
            client.post("/v1/chat/completions", json=body, timeout=1)
        Lmxd.until(lambda: not waiting_at(fleet))
    Lmxd.until(lambda: not any(i.leases for lmxd in fleet.lmxds.values() for i in lmxd.instances().values()))


def test_a_gateway_that_is_killed_gives_back_what_it_had(fleet: Boxes) -> None:
    with ExitStack() as stack:
        stack.enter_context(busy(fleet, "first"))
        stack.enter_context(busy(fleet, "second"))
        fleet.gateway.process.kill()
        fleet.gateway.process.wait(GENEROUS)
        lmxds = fleet.lmxds.values()
        Lmxd.until(lambda: not any(i.leases for lmxd in lmxds for i in lmxd.instances().values()))
