"""One endpoint for a fleet: real processes, two boxes and more, one gateway, clients over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator

import openai
import pytest
from fleet_boxes import Boxes, Models, boxes

from lmxd.fleet.names import ANSWERED_BY


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Boxes]:
    """``m`` is at both nodes, ``a`` at the first alone, ``b`` at the second."""
    models: dict[str, Models] = {"n1": {"m": {}, "a": {"aliases": ["fast"]}}, "n2": {"m": {}, "b": {}}}
    with boxes(tmp_path_factory.mktemp("fleet"), models) as found:
        yield found


def test_a_request_is_served_by_a_node_that_has_its_model(fleet: Boxes) -> None:
    for name, node in (("a", "n1"), ("fast", "n1"), ("b", "n2")):
        answer = fleet.chat(name)
        assert answer.status_code == 200, answer.text
        assert answer.headers[ANSWERED_BY] == node
        assert answer.json()["choices"][0]["message"]["content"]


def test_openais_client_reads_a_stream(fleet: Boxes) -> None:
    client = openai.OpenAI(base_url=f"{fleet.gateway.url}/v1", api_key=fleet.gateway.key, max_retries=0)
    with client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "hi"}], stream=True, max_tokens=3
    ) as chunks:
        said = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert "".join(filter(None, said))


def test_a_conversation_stays_at_its_node(fleet: Boxes) -> None:
    first = fleet.chat(text="one of a kind").headers[ANSWERED_BY]
    assert {fleet.chat(text="one of a kind").headers[ANSWERED_BY] for _ in range(6)} == {first}


def test_lists_have_the_models_of_all_nodes(fleet: Boxes) -> None:
    with fleet.gateway.client() as client:
        listed = client.get("/v1/models").json()["data"]
        assert {each["id"]: each["meta"]["nodes"] for each in listed} == {
            "a": ["n1"], "b": ["n2"], "fast": ["n1"], "m": ["n1", "n2"]
        }  # fmt: skip
        assert client.get("/v1/models/fast").json()["parent"] == "a"
        assert client.get("/v1/models/none").status_code == 404
        tags = client.get("/api/tags").json()["models"]
        assert [each["name"] for each in tags] == ["a", "b", "fast", "m"]
        anthropics = client.get("/v1/models", headers={"anthropic-version": "2023-06-01"}).json()
        assert [each["id"] for each in anthropics["data"]] == ["a", "b", "fast", "m"]


def test_ollamas_clients_are_served(fleet: Boxes) -> None:
    with fleet.gateway.client() as client:
        body = {"model": "b", "messages": [{"role": "user", "content": "hi"}]}
        lines = client.post("/api/chat", json=body).text.splitlines()
        assert json.loads(lines[-1])["done"] is True
        assert client.post("/api/show", json={"model": "a"}).json()["capabilities"] == ["completion"]
        assert client.post("/api/pull", json={"model": "c"}).status_code == 403


def test_an_instance_is_reached_below_its_models_name(fleet: Boxes) -> None:
    with fleet.gateway.client() as client:
        answer = client.get("/upstream/b/props")
        assert answer.status_code == 200, answer.text
        assert answer.headers[ANSWERED_BY] == "n2"
        assert client.get("/upstream/none/props").status_code == 404


def test_errors_are_those_of_the_api(fleet: Boxes) -> None:
    answer = fleet.chat("none")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"
    with fleet.gateway.client("wrong") as client:
        assert client.get("/v1/models").status_code == 401


def test_metrics_tell_nodes_apart(fleet: Boxes) -> None:
    fleet.chat("a")
    with fleet.gateway.client() as client:
        text = client.get("/metrics").text
    assert 'lmxd_fleet_requests_total{code="200",model="a",node="n1"}' in text
    assert 'lmxd_fleet_tries_total{node="n1",outcome="served"}' in text
    assert 'lmxd_fleet_heartbeat_age_seconds{node="n2"}' in text
