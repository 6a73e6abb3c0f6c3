"""The check of API keys, and of requests without one."""

from __future__ import annotations

import logging
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from lmxd.acts import Actor
from lmxd.config.schema import GatewayConfig
from lmxd.errors import LmxdError
from lmxd.gateway.keys import Caller, Keys

log = logging.getLogger(__name__)
CALLER: Final = web.RequestKey("caller", Caller)
ANYBODY: Final = Caller("anybody", admin=False)
_OPEN: Final = frozenset(("/", "/health", "/api/version"))
"""Pages that tell nothing, and may be had without a key."""
_LOCAL: Final = frozenset(("localhost", "127.0.0.1", "::1"))


class Unknown(LmxdError):
    """The error for a request without a key, or with one that is not known: 401 rather than 403."""

    def __init__(self) -> None:
        super().__init__("not_permitted", "a key is needed", "send Authorization: Bearer KEY; lmxd key NAME makes one")


def actor(request: web.Request) -> Actor:
    """The sender of a request as the log names it: the owner of its key, or its address."""
    if (caller := request.get(CALLER)) is not None and caller is not ANYBODY:
        return Actor(f"key {caller.name}", f"key {caller.name}")
    return Actor(f"{request.remote or 'somebody'} without a key", request.remote or "somebody")


class Authentication:
    """Tells who sends a request: the owner of its key, or anybody where no key is needed."""

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        self.refresh()

    def refresh(self) -> None:
        """Keys may have been added or removed. LmxdError ``config``, and no key counts, if the file cannot be used."""
        self._keys: Keys | None = None
        if self._config.keys_file is not None:
            self._keys = Keys(self._config.keys_file)
            for problem in self._keys.problems:
                log.error("%s: it lets nobody in", problem)

    def known(self, key: str) -> Caller | None:
        """The owner of a key that is in force."""
        return None if self._keys is None else self._keys.caller(key)

    def enter(self, request: web.Request) -> Caller:
        """The caller of a request. LmxdError ``not_permitted``."""
        key = request.headers.get("Authorization", "").removeprefix("Bearer ") or request.headers.get("X-Api-Key", "")
        if (known := self.known(key.strip())) is not None:
            return known
        if request.path in _OPEN:
            return ANYBODY
        if not self._config.anonymous:
            raise Unknown
        if not (self._config.listen or "").startswith("unix:"):
            _require_own_page(request)
        return ANYBODY


def _require_own_page(request: web.Request) -> None:
    """Refuse pages of other sites that a browser here happens to show: they need a key."""
    origin, host = request.headers.get("Origin"), urlsplit(f"//{request.host}").hostname
    if host not in _LOCAL or (origin is not None and urlsplit(origin).netloc != request.host):
        raise LmxdError("not_permitted", f"Host is {request.host}, Origin {origin}", "use a key, or localhost")
