"""Paths as clients write them: with or without /v1, as Azure and Groq have them, with slashes twice or at the end, or
as a whole URL."""

from __future__ import annotations

from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

_V1: Final = "v1"
_BEFORE: Final = "(?:openai/+(?:deployments/+[^/]+/+)?)?(?:v1/+)*"
"""The beginnings of a path of OpenAI's API: Groq's, Azure's, which names the model once more, and its own."""


MODEL: Final = "{model:.+?}"
"""A model's name at the end of a path. It may have slashes, but does not end with one."""


def routes(method: str, path: str, handler: Handler) -> list[web.RouteDef]:
    """The route of a path as it is, found at once, and of all that clients make of it."""
    as_it_is = [] if path.endswith(MODEL) else [web.route(method, path, handler)]
    return [*as_it_is, web.route(method, _tolerant(path), handler)]


def _tolerant(path: str) -> str:
    """The pattern of a path: /v1 may be missing or said twice, or stand behind /openai, and each slash be several."""
    first, *words = path.strip("/").split("/")
    begin = f"/{{_first:/*{_BEFORE}}}" if first == _V1 else "/{_first:/*}"
    words = words if first == _V1 else [first, *words]
    inner = "".join(f"{{_{number}:/+}}{word}" for number, word in enumerate(words[1:]))
    return f"{begin}{words[0]}{inner}{{_last:/*}}"


def target(request: web.BaseRequest) -> str:
    """The path and query of a request, as they came: a proxy's client sends a whole URL (RFC 9112, 3.2.2)."""
    raw = request.raw_path
    if raw.startswith("/"):
        return raw
    return "/" + raw.partition("://")[2].partition("/")[2]
