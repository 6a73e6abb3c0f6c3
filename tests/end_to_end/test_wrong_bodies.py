"""Right and wrong bodies on every route, over a real llama-server: no 500, and each error in the form of its API.

llama-server calls much of what its client did wrong a fault of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

import pytest
from examples import examples
from gateway_process import Gateway
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lmxd_process import Lmxd

TURN: Final = [{"role": "user", "content": "Hello"}]
ASKED: Final[dict[str, dict[str, Any]]] = {
    "/v1/chat/completions": {"model": "m", "messages": TURN, "max_tokens": 2},
    "/v1/chat/completions/input_tokens": {"model": "m", "messages": TURN},
    "/v1/completions": {"model": "m", "prompt": "One", "max_tokens": 2},
    "/v1/embeddings": {"model": "embed", "input": "One"},
    "/v1/rerank": {"model": "rank", "query": "One", "documents": ["Two"]},
    "/v1/reranking": {"model": "rank", "query": "One", "documents": ["Two"]},
    "/v1/responses": {"model": "m", "input": "Hello", "max_output_tokens": 2},
    "/v1/responses/input_tokens": {"model": "m", "input": "Hello"},
    "/v1/messages": {"model": "m", "messages": TURN, "max_tokens": 2},
    "/v1/messages/count_tokens": {"model": "m", "messages": TURN},
    "/completion": {"model": "m", "prompt": "One", "n_predict": 2},
    "/embedding": {"model": "embed", "content": "One"},
    "/tokenize": {"model": "m", "content": "One"},
    "/detokenize": {"model": "m", "tokens": [1, 2]},
    "/apply-template": {"model": "m", "messages": TURN},
    "/upstream/m/completion": {"prompt": "One", "n_predict": 2},
    "/api/chat": {"model": "m", "messages": TURN, "stream": False, "options": {"num_predict": 2}},
    "/api/generate": {"model": "m", "prompt": "One", "stream": False, "options": {"num_predict": 2}},
    "/api/embed": {"model": "embed", "input": "One"},
    "/api/embeddings": {"model": "embed", "prompt": "One"},
    "/api/show": {"model": "m"},
    "/api/pull": {"model": "m", "stream": False},
}
"""The right body of each route."""
LACKING: Final[dict[str, dict[str, Any]]] = {
    "/infill": {"model": "m", "input_prefix": "a", "input_suffix": "b", "n_predict": 2},
    "/v1/audio/speech": {"model": "m", "input": "Hello", "voice": "x"},
    "/v1/audio/transcriptions": {"model": "m"},
    "/v1/images/generations": {"model": "m", "prompt": "a cat"},
    "/v1/embeddings": {"model": "m", "input": "One"},
    "/v1/rerank": {"model": "embed", "query": "One", "documents": ["Two"]},
    "/api/embed": {"model": "m", "input": "One"},
    "/api/push": {"model": "m"},
    "/api/copy": {"source": "m", "destination": "n"},
    "/api/create": {"model": "n", "from": "m"},
}
"""Bodies that are right of routes that these models, or lmxd, have not."""
STRANGERS: Final = (
    "/v1/files /v1/batches /v1/fine_tuning/jobs /v1/assistants /v1/vector_stores /v1/realtime/sessions /v1/threads "
    "/v1/moderations /v1/responses/resp_1 /v1/uploads /v1/conversations /v1/messages/batches /models/load /slots "
    "/lora-adapters /api/none /v1"
).split()
"""Routes of those APIs that there are not."""
VALUES: Final = (
    b'null true 0 -1 1.5 1e400 -1e999 NaN 99999999999999999999999999 9223372036854775808 "" "x" "\\ud800" "\\u0000" '
    b'"\xff" "\xed\xa0\x80" [] {} [null] [1] [-1] [99999999] ["x"] [[]] [{}] {"a":{}} {"type":"x"} \xef\xbb\xbf1 '
    b"%b %b"
) % (b"[" * 300 + b"]" * 300, b'"' + b"a" * 20_000 + b'"')
WHOLE: Final = (
    *(
        b"",
        b"x",
        b"[]",
        b"null",
        b"1",
        b'"m"',
        b"{}",
        b"{",
        b"\xff\xfe",
        b"\x00" * 9,
        b'{"model": null}',
        b'{"model": 1}',
    ),
    *(
        b'{"model": "none"}',
        b'{"model": "\\ud800"}',
        b'{"model": "m\\u0000"}',
        b'{"model": "m\xff"}',
        b'{"model": "m"}',
    ),
    *(b'{"model": "embed"}', b'{"model": "m", "model": "embed"}', b'{"model": "m"} {"a": 1}'),
    b'{"model": "m", "messages": ' + b"[" * 9000 + b"]" * 9000 + b"}",
    b'{"model": "' + b"m" * 9000 + b'"}',
)
FIELDS: Final = (
    "model messages prompt input query documents content tokens stream temperature stop tools tool_choice seed system "
    "response_format stream_options logit_bias logprobs top_n encoding_format dimensions instructions grammar samplers "
    "json_schema reasoning_format chat_template_kwargs n_probs lora n input_prefix images format options think name "
    "keep_alive suffix raw truncate metadata text reasoning functions add_special with_pieces dry_sequence_breakers"
).split()
"""Not those that bound an answer: without them it is as long as the context."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, few_layers: Path) -> Iterator[Gateway]:
    models = {
        "m": {"path": str(few_layers), "context_length": 256},
        "embed": {
            "path": str(few_layers),
            "context_length": 256,
            "engine_flags": ["--embeddings", "--pooling", "mean"],
        },
        "rank": {"path": str(few_layers), "context_length": 256, "engine_flags": ["--reranking", "--pooling", "rank"]},
    }
    config = {"gpu": {"device": "host", "max_memory_gb": 2}, "models": models}
    with Lmxd(tmp_path_factory.mktemp("wrong"), config) as lmxd, Gateway(lmxd) as gateway:
        yield gateway
        assert "Traceback" not in gateway.log.read_text()


class Asker:
    """One connection, which every answer must leave usable."""

    def __init__(self, gateway: Gateway) -> None:
        self._key, self._connection = gateway.key, HTTPConnection("127.0.0.1", gateway.port, timeout=60)
        self._connection.connect()
        self._socket = self._connection.sock

    def ask(self, path: str, body: bytes | None, method: str = "POST", kind: str = "") -> tuple[int, bytes]:
        assert self._connection.sock is self._socket, "the answer before this one closed the connection"
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": kind or "application/json"}
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def asker(gateway: Gateway) -> Iterator[Asker]:
    made = Asker(gateway)
    yield made
    made.close()


def require_clean(path: str, sent: object, status: int, said: bytes) -> None:
    """A success, or an error that is the client's, in the form that clients of this API expect."""
    assert 200 <= status < 500, (path, sent, status, said[:300])
    if status < 400:
        return
    error = json.loads(said)["error"]
    message = error if path.startswith("/api/") else error["message"]
    assert isinstance(message, str), (path, said[:300])
    assert "report this" not in message
    if not path.startswith("/api/"):
        assert isinstance(error["type"], str), (path, said[:300])


def test_every_right_body_is_answered(asker: Asker) -> None:
    for path, body in ASKED.items():
        status, said = asker.ask(path, json.dumps(body).encode())
        assert status == 200, (path, said)
    status, said = asker.ask("/props?model=m", None, "GET")
    assert (status, json.loads(said)["total_slots"]) == (200, 1)


def test_that_a_model_cannot_do_it_is_said(asker: Asker) -> None:
    for path, body in LACKING.items():
        status, said = asker.ask(path, json.dumps(body).encode())
        assert status in (400, 403, 404), (path, said)
        require_clean(path, body, status, said)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_every_route_has_an_answer_to_every_method(asker: Asker, method: str) -> None:
    for path in (*ASKED, *LACKING, *STRANGERS, "/api/delete", "/api/blobs/sha256:00", "/v1/models", "/api/tags"):
        status, said = asker.ask(path, None if method in ("GET", "HEAD") else b"{}", method)
        if method == "HEAD":
            assert status < 500
            assert said == b""
        else:
            require_clean(path, method, status, said)


def test_no_body_is_a_fault_of_the_servers(asker: Asker) -> None:
    for path in (*ASKED, *LACKING):
        for body in WHOLE:
            require_clean(path, body, *asker.ask(path, body))


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "multipart/form-data", "multipart/form-data; boundary=x", "application/json; charset=utf-16", "é"],
)
def test_nor_is_its_type(asker: Asker, kind: str) -> None:
    for path, body in ASKED.items():
        require_clean(path, kind, *asker.ask(path, json.dumps(body).encode(), kind=kind))


def with_field(body: dict[str, Any], field: str, value: bytes) -> bytes:
    """A body in which a field has bytes that no encoder would write."""
    rest = {key: said for key, said in body.items() if key != field}
    return json.dumps(rest).encode().removesuffix(b"}") + b', "%b": %b}' % (field.encode(), value)


def test_no_value_of_any_field_is(asker: Asker) -> None:
    @settings(max_examples=examples(600), suppress_health_check=list(HealthCheck))
    @given(path=st.sampled_from(list(ASKED)), field=st.sampled_from(FIELDS), value=st.sampled_from(VALUES.split()))
    def fuzz(path: str, field: str, value: bytes) -> None:
        body = with_field(ASKED[path], field, value)
        require_clean(path, body[:200], *asker.ask(path, body))

    fuzz()


@pytest.mark.parametrize("path", ASKED)
def test_nor_are_those_of_the_fields_that_it_has(asker: Asker, path: str) -> None:
    for field in ASKED[path].keys() - {"max_tokens", "n_predict", "max_output_tokens", "options"}:
        for value in VALUES.split():
            body = with_field(ASKED[path], field, value)
            require_clean(path, body[:200], *asker.ask(path, body))
