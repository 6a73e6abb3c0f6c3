"""What a fleet's gateway reads out of requests and answers: conversations, names of models, errors of nodes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fleet.reported import beat
from lmxd.errors import LmxdError
from lmxd.fleet.choosing.table import NodeTable
from lmxd.fleet.gateway.conversations import conversation
from lmxd.fleet.gateway.known import FleetModels
from lmxd.fleet.gateway.refusals import NodeError
from lmxd.fleet.reports import NodeCard, Offered
from lmxd.gateway.http.http1 import Head


def chat(*said: str, system: str = "be brief") -> bytes:
    roles = ("user", "assistant")
    messages = [{"role": roles[number % 2], "content": text} for number, text in enumerate(said)]
    return json.dumps({"messages": [{"role": "system", "content": system}, *messages]}).encode()


def test_a_conversation_is_known_by_its_first_message_however_long_it_gets() -> None:
    first = conversation("me", "m", chat("hi"))
    assert first == conversation("me", "m", chat("hi", "hello", "go on"))
    others = [("me", "m", chat("ho")), ("me", "m", chat("hi", system="be long")), ("you", "m", chat("hi"))]
    others += [("me", "n", chat("hi"))]
    assert len({first, *(conversation(*each) for each in others)}) == 5


@pytest.mark.parametrize("body", [b"", b"no json", b"[]", b'{"messages": []}', b'{"messages": [1]}', b'{"n": 1}'])
def test_what_tells_no_conversation_has_none(body: bytes) -> None:
    assert conversation("me", "m", body) == ""


def test_a_prompt_is_known_by_how_it_begins() -> None:
    long = "x" * 600
    assert conversation(None, "m", json.dumps({"prompt": long}).encode()) == conversation(
        None, "m", json.dumps({"prompt": f"{long} and more"}).encode()
    )


def models(**nodes: list[Offered]) -> FleetModels:
    table = NodeTable()
    for node, offered in nodes.items():
        table.hear_card(NodeCard(node=node, address="x:1", version="1", started="s", models=tuple(offered)))
        table.hear(beat(node, 1, 0.0), 0.0)
    return FleetModels(table, lambda: 0.0)


def test_names_are_listed_with_the_nodes_that_know_them() -> None:
    found = models(
        n1=[Offered(model="a", names=("a", "fast")), Offered(model="x/y")], n2=[Offered(model="a", names=("a",))]
    )
    assert {name: each.nodes for name, each in found.listed().items()} == {
        "a": ("n1", "n2"), "fast": ("n1",), "x/y": ("n1",)
    }  # fmt: skip
    assert found.named("fast", "/v1/models") == "a"
    assert [found.of_path(path) for path in ("x/y/props", "x%2Fy/props", "none/props")] == ["x/y", "x/y", "none"]


def test_a_models_own_name_means_it_at_all_nodes() -> None:
    found = models(n1=[Offered(model="a", names=("a", "b"))], n2=[Offered(model="b")])
    assert found.listed()["b"].nodes == ("n2",)
    assert found.named("b", "/v1/models") == "b"
    with pytest.raises(LmxdError, match="no node has a model 'c'"):
        found.named("c", "/v1/models")


@pytest.mark.parametrize(
    ("status", "body", "code", "message", "elsewhere"),
    [
        (429, {"error": {"message": "full", "code": "queue_full"}}, "queue_full", "full", True),
        (404, {"error": {"message": "none", "code": "model_not_found"}}, "unknown_model", "none", True),
        (400, {"error": {"message": "large", "code": "never_fits"}}, "never_fits", "large", True),
        (400, {"error": {"message": "bad", "code": 400}}, "invalid_params", "bad", False),
        (429, {"type": "error", "error": {"type": "rate_limit_error", "message": "full"}}, "no_capacity", "full", True),
        (503, {"error": "it drains"}, "stopped", "it drains", True),
        (403, {"error": "no"}, "not_permitted", "no", False),
        (500, "<html>", "internal", "node n1 answered with status 500", True),
        (400, ["?"], "invalid_params", "node n1 answered with status 400", False),
    ],
)
def test_an_error_of_a_node_is_read_in_the_form_of_each_api(
    status: int, body: Any, code: str, message: str, elsewhere: bool
) -> None:
    said = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    lines = (b"HTTP/1.1 %d X" % status, b"Content-Type: application/json", b"Retry-After: 3", b"Content-Length: 9")
    error = NodeError("n1", Head(status=status, length=9, chunked=False, lines=lines), said)
    assert (error.code, error.message, error.elsewhere) == (code, message, elsewhere)
    assert error.headers == {"Content-Type": "application/json", "Retry-After": "3"}
    assert error.body == said
