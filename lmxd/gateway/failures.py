"""Errors as HTTP has them: a status, when to come again, and a body as OpenAI's clients expect it."""

from __future__ import annotations

import math
from typing import Any, Final

from aiohttp import web

from lmxd.errors import LmxdError

_STATUS: Final[dict[str, int]] = {
    "invalid_request": 400,
    "invalid_params": 400,
    "unknown_model": 404,
    "unknown_instance": 404,
    "unknown_lease": 404,
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
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_AGAIN: Final = 5.0
"""Seconds after which to ask again, where nothing better is known."""


def status_of(error: LmxdError) -> int:
    return _STATUS.get(error.code, 500)


def body_of(error: LmxdError, status: int) -> dict[str, Any]:
    code = "model_not_found" if error.code == "unknown_model" else error.code
    return {
        "error": {
            "message": str(error),
            "type": _TYPES.get(status, "server_error"),
            "param": "model" if error.code == "unknown_model" else None,
            "code": code,
            **({"data": error.data} if error.data else {}),
        }
    }


def response(error: LmxdError, status: int) -> web.Response:
    headers = {}
    if status in (429, 503):
        headers["Retry-After"] = str(max(1, math.ceil(error.data.get("retry_in") or _AGAIN)))
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return web.json_response(body_of(error, status), status=status, headers=headers)
