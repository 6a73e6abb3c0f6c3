"""Errors of engines, and whose fault each is: to much that its client did wrong llama-server says 500 or 501."""

from __future__ import annotations

import contextlib
from typing import Final

from lmxd.errors import LmxdError
from lmxd.gateway.answers.parts import EngineError, EngineProblem, understood
from lmxd.gateway.requests.failures import StatusError

_TOO_LONG: Final = (
    "too large to process",
    "exceeds the available context",
    "context length",
)
"""The words of llama-server, and of vLLM."""
_FULL: Final = "context size has been exceeded"
"""The words of llama-server as it ends all requests at hand, for the cache that its slots share has no cell left. One
that is too long by itself is told so, or ends where its context does."""
_OWN: Final = (
    "chunk not found",
    "compute error",
    "failed to decode the batch",
    "failed to find",
    "failed to get",
    "failed to process",
    "failed to reload",
    "unable to save",
    "unable to restore",
    "bad_alloc",
    "out of memory",
    "unknown exception",
)
"""The words of llama-server for what went wrong in itself. All else that it calls its error is about the request:
it says 500 to each that it cannot read."""
_KEYS: Final = {"`--embedding": "embedding", "`--rerank": "rerank", "pooling type": "pooling"}
"""The words of llama-server for what it was not started for -> the key of a profile by which it is."""
_LACKS: Final = ("file not found", "not found", "method not allowed")
"""The words of servers that have no such path, which say no more than that."""
_LONGEST: Final = 2000
"""Characters of a message: some quote the whole request."""


def of_engine(body: bytes, status: int, path: str = "") -> LmxdError:
    """An engine's error, as it says it, or as it came; its status is that for the client. ``path``: what was asked."""
    said = _said(body)
    text = _text(said, body)
    if status in (404, 405) and text.lower().rstrip(".") in _LACKS:
        remedy = "name a model whose engine has it, of /v1/models"
        return StatusError(status, "unknown_method", f"the engine of this model has no {path or 'such path'}", remedy)
    message = f"the instance says: {text}"
    if status == 500 and _FULL in text.lower():
        message += " The cache that its slots share is full."
        remedy = "ask again; else have a larger context_length in its profile, or context: elastic, or no kv_unified"
        return LmxdError("stopped", message, remedy)
    key = next((key for words, key in _KEYS.items() if words in text.lower()), None)
    if status == 501:
        remedy = "name a model that can do that, of /v1/models"
        keyed = f"; an administrator has one do it by the key {key}" if key else ""
        return LmxdError("invalid_params", message, remedy + keyed)
    if status == 400 and key:
        return LmxdError("invalid_params", message, f"an administrator sets the key {key} of the model, such as mean")
    if status < 500 or is_too_long(text) or (status == 500 and _is_about_the_request(said, text)):
        return LmxdError("invalid_params", message, "")
    return LmxdError("bad_answer", message, "")


def is_too_long(text: str) -> bool:
    """Whether an engine says that a text has too many tokens, which llama-server calls a fault of its own."""
    return any(words in text.lower() for words in _TOO_LONG)


def is_told(body: bytes) -> bool:
    """Whether an error has the form in which the clients of OpenAI's API expect one."""
    problem = _said(body).error
    return isinstance(problem, EngineProblem) and bool(problem.message)


def _is_about_the_request(said: EngineError, text: str) -> bool:
    """Whether llama-server's 500 is the client's fault. Other engines mean it."""
    by_llama_server = isinstance(said.error, EngineProblem) and (said.error.type, said.error.code) == (
        "server_error",
        500,
    )
    return by_llama_server and not any(words in text.lower() for words in _OWN)


def _said(body: bytes) -> EngineError:
    with contextlib.suppress(LmxdError):
        return understood(body, EngineError)
    return EngineError()


def _text(said: EngineError, body: bytes) -> str:
    error = said.error
    found = (error.message if isinstance(error, EngineProblem) else error) or said.message
    if found is None and isinstance(said.detail, str):
        found = said.detail
    return (found or body[:_LONGEST].decode(errors="replace"))[:_LONGEST]
