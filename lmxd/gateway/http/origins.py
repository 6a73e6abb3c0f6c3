"""Pages of other origins whose scripts may ask the gateway: CORS, as the Fetch standard has it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from aiohttp import web

ANY: Final = "*"
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[!-~]+")
"""An origin of a page; ``null``, of a page that has none, is nobody's."""
_LOCAL: Final = re.compile(r"[a-z][a-z0-9+.-]*://(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]+)?")
_METHODS: Final = "GET, HEAD, POST, PUT, PATCH, DELETE"
_EXPOSED: Final = "Retry-After, X-Request-Id"
_LASTING: Final = "600"
"""Seconds for which a browser may remember the answer to its preflight."""
CORS: Final = web.RequestKey("cors", dict[str, str])
"""Headers of the answer to a page of another origin; empty for all others."""


class Origins:
    """The origins whose pages may ask. ``named``: None for those of this machine, on any port; ``*`` for all."""

    def __init__(self, named: Iterable[str] | None) -> None:
        self._named = None if named is None else frozenset(x.lower().rstrip("/") for x in named)

    def allow(self, headers: Mapping[str, str]) -> bool:
        """Whether a page asks that may. A browser says whose page it is, and no page can change that."""
        said = headers.get("Origin", "")
        if not said.isascii() or not _ORIGIN.fullmatch(origin := said.lower()):
            return False
        if self._named is None:
            return _LOCAL.fullmatch(origin) is not None
        return ANY in self._named or origin in self._named

    def headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """The headers for the answer to a request: empty unless a page asks that may."""
        if not self.allow(headers):
            return {}
        return {
            "Access-Control-Allow-Origin": headers["Origin"],
            "Access-Control-Expose-Headers": _EXPOSED,
            "Vary": "Origin",
        }

    def preflight(self, request: web.BaseRequest) -> web.Response | None:
        """The answer to a browser that asks whether a page may ask, which it does without a key; None for all else."""
        asked = request.headers
        if request.method != "OPTIONS" or not asked.get("Origin") or "Access-Control-Request-Method" not in asked:
            return None
        if not self.allow(asked):
            text = f"gateway.origins does not name {ascii(asked['Origin'])[:200]}"
            return web.Response(status=403, text=text)
        made = self.headers(asked) | {
            "Access-Control-Allow-Methods": _METHODS,
            "Access-Control-Allow-Headers": asked.get("Access-Control-Request-Headers", "*"),
            "Access-Control-Max-Age": _LASTING,
        }
        if "Access-Control-Request-Private-Network" in asked:
            made["Access-Control-Allow-Private-Network"] = "true"
        return web.Response(status=204, headers=made)
