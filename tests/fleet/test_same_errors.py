"""Errors of a fleet's gateway beside those of a single one: the same request is answered by the same error."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from fleet_boxes import Boxes, boxes
from gateway_process import Gateway
from waiting import GENEROUS

LIMITED: dict[str, dict[str, Any]] = {
    "none": {"max_leases": 0},
    "nowhere": {"max_waiting": 0},
    "small": {"max_memory_gb": 0.01},
}
"""Users of both, and their limits."""
MODELS: dict[str, dict[str, Any]] = {
    "m": {},
    "huge": {"estimated_memory_gb": 8},
    "counts": {"play": {"counts": True}, "context_length": 4096},
    "wide": {"context_length": 8192, "estimated_memory_gb": 0.3},
    "broken": {"play": {"exit": {"status": 1, "lines": ["no"]}}, "estimated_memory_gb": 0.1},
    "slow": {"play": {"token_seconds": 0.2}, "estimated_memory_gb": 0.9, "slots": 1},
}


def chat(model: object, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hi"}]} | more


@dataclass(frozen=True)
class Asked:
    """A request. ``user``: whose key; ``wait``: the most seconds in queues."""

    path: str
    body: object = None
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)
    user: str = "user"


@dataclass(frozen=True)
class Both:
    """A single gateway, and a fleet's, of the same lmxd. ``keys``: of users there, by name."""

    single: Gateway
    fleet: Boxes
    keys: dict[str, tuple[str, str]]

    def answers(self, asked: Asked) -> list[httpx.Response]:
        urls = self.single.url, self.fleet.gateway.url
        return [_answer(url, key, asked) for url, key in zip(urls, self.keys[asked.user], strict=True)]


def _answer(url: str, key: str, asked: Asked) -> httpx.Response:
    raw = asked.body if isinstance(asked.body, bytes | None) else json.dumps(asked.body).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"} | asked.headers
    return httpx.request(asked.method, url + asked.path, content=raw, headers=headers, timeout=GENEROUS)


def told(answer: httpx.Response) -> dict[str, Any]:
    """The parts of an answer by which programs go."""
    found: dict[str, Any] = {"status": answer.status_code}
    found |= {key: answer.headers.get(key) is not None for key in ("Retry-After", "WWW-Authenticate")}
    found["allow"] = answer.headers.get("Allow")
    if answer.status_code == 200 or not answer.content:
        return found
    said = answer.json()
    error = said["error"]
    if isinstance(error, dict):
        return found | {key: error.get(key) for key in ("type", "code", "param", "n_ctx")} | {"kind": said.get("type")}
    return found | {"error": type(error).__name__}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    more = {"wait": GENEROUS, "max_body_mb": 2}
    place = tmp_path_factory.mktemp("same")
    with boxes(place, {"n1": MODELS}, gateway=more, users=LIMITED, keys=LIMITED) as fleet:
        single = Gateway(fleet.lmxds["n1"], **more)
        keys = {name: (single.key_of(name), fleet.gateway.key_of(name)) for name in LIMITED}
        keys |= {"user": (single.key, fleet.gateway.key), "stranger": ("no", "no")}
        with single:
            yield Both(single, fleet, keys)


FORM = {"Content-Type": "multipart/form-data; boundary=x"}
LONG = [{"role": "user", "content": "word " * 60_000}]
CASES = {
    "an unknown model": (
        404,
        [
            Asked("/v1/chat/completions", chat("no")),
            Asked("/v1/chat/completions", chat("no", stream=True)),
            Asked("/v1/responses", {"model": "no", "input": "x"}),
            Asked("/v1/messages", chat("no", max_tokens=3)),
            Asked("/v1/embeddings", {"model": "no", "input": "x"}),
            Asked("/api/chat", chat("no")),
            Asked("/api/generate", {"model": "no", "prompt": "x"}),
            Asked("/api/embed", {"model": "no", "input": "x"}),
            Asked("/api/show", {"model": "no"}),
            Asked("/v1/models/no", method="GET"),
            Asked("/props?model=no", method="GET"),
            Asked("/upstream/no/props", method="GET"),
        ],
    ),
    "no model": (
        400,
        [
            Asked("/v1/chat/completions", {"messages": []}),
            Asked("/v1/chat/completions", chat("")),
            Asked("/v1/chat/completions", chat(7)),
            Asked("/api/chat", {"messages": []}),
            Asked("/props", method="GET"),
        ],
    ),
    "a body that is none": (
        400,
        [
            Asked(path, body)
            for path in ("/v1/chat/completions", "/v1/messages", "/api/chat")
            for body in (b"", b"{", b"[]", b"\xff")
        ]
        + [Asked("/v1/audio/transcriptions", b"x", headers=FORM)],
    ),
    "a wrong value": (
        400,
        [
            Asked("/api/chat", {"model": "m", "messages": 7}),
            Asked("/api/generate", {"model": "m", "prompt": 7}),
            Asked("/api/chat", chat("m", options={"num_ctx": "x"})),
            Asked("/api/chat", chat("m", format="x")),
            Asked("/v1/chat/completions", chat("m", lora=[{"id": 7, "scale": 1}])),
            Asked("/v1/chat/completions", chat("m"), headers={"X-Lmxd-Priority": "high"}),
        ],
    ),
    "a body that is too large": (
        413,
        [Asked(path, chat("m", x="x" * 3_000_000)) for path in ("/v1/chat/completions", "/api/chat")],
    ),
    "a wrong method": (
        405,
        [Asked("/v1/chat/completions", method="GET"), Asked("/api/chat", method="GET"), Asked("/v1/models", {})],
    ),
    "a path that is none": (404, [Asked("/v1/nothing", method="GET"), Asked("/api/nothing", method="GET")]),
    "a wrong key": (
        401,
        [
            Asked(path, chat("m", max_tokens=3), user="stranger")
            for path in ("/v1/chat/completions", "/v1/messages", "/api/chat")
        ],
    ),
    "what is shut": (
        403,
        [
            Asked("/upstream/m/slots/0", {}),
            Asked("/api/push", {"model": "m"}),
            Asked("/api/create", {"model": "x"}),
            Asked("/api/delete", {"model": "m"}, "DELETE"),
            Asked("/api/blobs/sha256:11", b"x"),
        ],
    ),
    "a blob": (404, [Asked("/api/blobs/sha256:11", method="HEAD")]),
    "what never fits": (
        400,
        [Asked(path, chat("huge", max_tokens=3)) for path in ("/v1/chat/completions", "/v1/messages", "/api/chat")]
        + [Asked("/v1/chat/completions", chat("huge"), headers={"Prefer": "wait=0"})],
    ),
    "a prompt that is too long": (
        400,
        [Asked(path, {"model": "counts", "messages": LONG}) for path in ("/v1/chat/completions", "/api/chat")],
    ),
    "a context beyond the usual": (
        200,
        [Asked("/api/chat", chat("wide", options={"num_ctx": n})) for n in (16384, 32768, 10**6)],
    ),
    "a model that does not start": (
        502,
        [Asked(path, chat("broken", max_tokens=3)) for path in ("/v1/chat/completions", "/v1/messages", "/api/chat")],
    ),
    "no lease for its user": (
        429,
        [
            Asked(path, chat("m", max_tokens=3), headers=said, user=user)
            for user in ("none", "small")
            for path in ("/v1/chat/completions", "/api/chat")
            for said in ({}, {"Prefer": "wait=0"})
        ],
    ),
}


@pytest.mark.parametrize("what", CASES)
def test_a_request_is_answered_as_by_a_single_gateway(both: Both, what: str) -> None:
    status, requests = CASES[what]
    for asked in requests:
        single, fleet = both.answers(asked)
        assert told(fleet) == told(single), f"{asked.method} {asked.path}: {fleet.text[:300]} | {single.text[:300]}"
        assert single.status_code == status


@contextlib.contextmanager
def full(both: Both) -> Iterator[None]:
    """All memory is in use, for as long as the block lasts."""
    body = chat("slow", stream=True, max_tokens=100_000)
    headers = {"Authorization": f"Bearer {both.single.key}"}
    with (
        httpx.Client(base_url=both.single.url, headers=headers, timeout=GENEROUS) as client,
        client.stream("POST", "/v1/chat/completions", json=body) as stream,
    ):
        parts = stream.iter_bytes()  # it ends with its iterator
        next(parts)
        yield


def test_a_full_one_is_told_of_as_by_a_single_gateway(both: Both) -> None:
    with full(both):
        for wait, code in ((0, "no_capacity"), (1, "wait_expired")):
            for path in ("/v1/chat/completions", "/api/chat"):
                asked = Asked(path, chat("m", stream=False), headers={"Prefer": f"wait={wait}"})
                single, fleet = both.answers(asked)
                assert told(fleet) == told(single), f"{path}: {fleet.text[:300]} | {single.text[:300]}"
                assert single.status_code == 429
                assert path != "/v1/chat/completions" or single.json()["error"]["code"] == code
        single, fleet = both.answers(Asked("/v1/chat/completions", chat("m"), user="nowhere"))
        assert told(fleet) == told(single), f"{fleet.text[:300]} | {single.text[:300]}"
        assert single.json()["error"]["code"] == "too_many_waiting"
