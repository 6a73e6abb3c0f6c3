"""Errors as HTTP has them: a status, when to come again, and a body as the clients of each API expect it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any, Final

from aiohttp import web

from lmxd.errors import LmxdError
from lmxd.gateway.leasing.remedies import said

_STATUS: Final[dict[str, int]] = {
    "invalid_request": 400,
    "invalid_params": 400,
    "unknown_model": 404,
    "unknown_instance": 404,
    "unknown_lease": 404,
    "lease_ended": 404,
    "unknown_id": 404,
    "not_permitted": 403,
    "never_fits": 400,
    "no_capacity": 429,
    "queue_full": 429,
    "wait_expired": 429,
    "too_many": 429,
    "over_quota": 429,
    "too_many_waiting": 429,
    "deadline": 429,
    "ledger_unwritable": 503,
    "draining": 503,
    "stopped": 503,
    "cancelled": 503,
    "client_left": 503,
    "daemon_unavailable": 503,
    "launch_failed": 502,
    "bad_answer": 502,
}
"""All others are 500: neither the client's fault nor cured by asking again."""
_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_ANTHROPIC_TYPES: Final = _TYPES | {413: "request_too_large", 503: "overloaded_error"}
_OF_CLIENTS: Final = range(400, 500)
"""Statuses of what a client did wrong."""
TOO_LONG: Final = "exceed_context_size_error"
"""The type of llama-server's error for a prompt that its slot has no room for."""
_AGAIN: Final = 5.0
"""Seconds after which to ask again, where nothing better is known."""


class ErrorFormat(Enum):
    """The form in which the clients of an API expect an error."""

    OPENAI = "openai"
    RESPONSES = "responses"
    ANTHROPIC = "anthropic"
    OLLAMA = "ollama"

    @classmethod
    def of(cls, path: str, headers: Mapping[str, str] = MappingProxyType({})) -> ErrorFormat:
        """The format for a path, however it is written, also of an instance (``/upstream/MODEL/v1/messages``).

        Anthropic's clients name the version of their API with each request, also where OpenAI has the same path.
        """
        words = [*filter(None, path.split("/"))]
        if words[:1] == ["api"]:
            return cls.OLLAMA
        if is_anthropics(headers) or words[-1:] == ["messages"] or words[:2] in (["v1", "messages"], ["messages"]):
            return cls.ANTHROPIC
        if words[-2:] == ["messages", "count_tokens"]:
            return cls.ANTHROPIC
        return cls.RESPONSES if words[-1:] == ["responses"] else cls.OPENAI


def is_anthropics(headers: Mapping[str, str]) -> bool:
    """Whether a client of Anthropic's API asks."""
    return "Anthropic-Version" in headers


class StatusError(LmxdError):
    """An error with a status of HTTP's own, for which its code is too wide."""

    def __init__(self, status: int, code: str, message: str, remedy: str) -> None:
        super().__init__(code, message, remedy)
        self.status = status


class TooLongError(StatusError):
    """A prompt that no context of its model has room for, in the words by which clients know it of llama-server."""

    def __init__(self, prompt: int, most: int) -> None:
        what = f"the request has {prompt} tokens, which exceeds the available context size of {most} tokens"
        super().__init__(400, "invalid_params", what, "send less of the conversation")
        self.said = {"type": TOO_LONG, "n_prompt_tokens": prompt, "n_ctx": most}


def status_of(error: LmxdError) -> int:
    return error.status if isinstance(error, StatusError) else _STATUS.get(error.code, 500)


def _type(status: int, kind: ErrorFormat) -> str:
    """The type of an error, in the words of its API."""
    named, other = (_ANTHROPIC_TYPES, "api_error") if kind is ErrorFormat.ANTHROPIC else (_TYPES, "server_error")
    return named.get(status) or ("invalid_request_error" if status in _OF_CLIENTS else other)


def body_of(error: LmxdError, status: int, kind: ErrorFormat = ErrorFormat.OPENAI) -> dict[str, Any]:
    """The body of an answer that is an error."""
    if kind is ErrorFormat.OLLAMA:
        return {"error": said(error)}
    if kind is ErrorFormat.ANTHROPIC:
        problem = {"type": _type(status, kind), "message": said(error)}
        return {"type": "error", "error": problem}
    code = "model_not_found" if error.code == "unknown_model" else error.code
    return {
        "error": {
            "message": said(error),
            "type": _type(status, kind),
            "param": "model" if error.code == "unknown_model" else None,
            "code": code,
            **({"data": error.data} if error.data else {}),
            **(error.said if isinstance(error, TooLongError) else {}),
        }
    }


def event_of(error: LmxdError, status: int, kind: ErrorFormat) -> bytes:
    """The last event of a stream that was begun: each API's clients take another one for an error."""
    made = body_of(error, status, kind)
    if kind is ErrorFormat.RESPONSES:
        inner = made["error"]
        made = {"type": "error", "sequence_number": 0, **{key: inner[key] for key in ("code", "message", "param")}}
    name = b"" if kind is ErrorFormat.OPENAI else b"event: error\n"
    return name + b"data: " + json.dumps(made).encode() + b"\n\n"


def response(error: LmxdError, status: int, kind: ErrorFormat = ErrorFormat.OPENAI) -> web.Response:
    headers = {}
    if status in (429, 503):
        headers["Retry-After"] = str(max(1, math.ceil(error.data.get("retry_in") or _AGAIN)))
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return web.json_response(body_of(error, status, kind), status=status, headers=headers)
