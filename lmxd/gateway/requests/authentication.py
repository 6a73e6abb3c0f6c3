"""The check of API keys, and of requests without one."""

from __future__ import annotations

import base64
import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import Final

from aiohttp import web

from lmxd.acts import Actor
from lmxd.config.gateway import GatewayConfig
from lmxd.config.keys import MAKES_ONE, Caller, Keys, version_of
from lmxd.errors import LmxdError
from lmxd.gateway.http.origins import Origins
from lmxd.gateway.leasing.stated import Stated
from lmxd.gateway.requests.failures import StatusError
from lmxd.listening.connection import cut
from lmxd.listening.pages import OwnPages

log = logging.getLogger(__name__)
CALLER: Final = web.RequestKey("caller", Caller)
ANYBODY: Final = Caller("anybody", admin=False)
QUIET: Final = web.RequestKey("quiet", bool)
"""Set where another gateway asks: it has no sign of life until there is an answer, of which the status tells all."""
STATED: Final = web.RequestKey("stated", Stated)
"""Set where another gateway asks: what it knows of the request."""
_HEALTH: Final = "/health"
"""For probes, which come by any name; it tells nothing and starts nothing."""
_OPEN: Final = frozenset(("/", _HEALTH, "/api/version"))
"""Pages that tell nothing, and may be had without a key."""


def _unknown(key: str) -> StatusError:
    """The error for a request without a key, or with one that is not known."""
    message = "the key is not known" if key else "a key is needed"
    remedy = "it may be cut off, or removed" if key else "send Authorization: Bearer KEY"
    return StatusError(401, "not_permitted", message, f"{remedy}; an administrator makes one: {MAKES_ONE}")


def key_of(headers: Mapping[str, str]) -> str:
    """The key that a request was sent with, however its client sends keys; empty if there is none.

    ``Bearer KEY`` (OpenAI), ``Basic`` with the key as the password (http://me:KEY@host), ``X-Api-Key`` (Anthropic),
    ``Api-Key`` (Azure).
    """
    scheme, _, words = headers.get("Authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer" and words.strip():
        return words.strip()
    if scheme.lower() == "basic":
        with contextlib.suppress(ValueError):
            user, _, password = base64.b64decode(words.strip(), validate=True).decode().partition(":")
            return password or user
    return (headers.get("X-Api-Key") or headers.get("Api-Key") or "").strip()


def is_remembered(headers: Mapping[str, str]) -> bool:
    """Whether a browser adds the key of a request by itself, whichever page has it ask: as it does with a password."""
    return headers.get("Authorization", "").strip().lower().startswith("basic ")


def actor(request: web.Request) -> Actor:
    """The sender of a request as the log names it: the owner of its key, or its address.

    All without a key are counted as one: whoever is on this machine has 16 million addresses.
    """
    if (caller := request.get(CALLER)) is not None and caller is not ANYBODY:
        return Actor(f"key {caller.name}", f"key {caller.name}")
    return Actor(f"{request.remote or 'somebody'} without a key", "callers without a key")


class Authentication:
    """Tells who sends a request: the owner of its key, or anybody where no key is needed."""

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        self._pages = OwnPages(config.listen or "", config.hosts, by_number=not config.is_local)
        self.origins = Origins(config.origins)
        self._inside: dict[int, web.Request] = {}
        """The requests that are being answered, by their identity: they have no hash."""
        self._read_keys()

    def refresh(self) -> None:
        """Keys may have been added or removed. LmxdError ``config``, and no key counts, if the file cannot be used.

        What is being answered for a key that is gone, or is another's now, is cut.
        """
        try:
            self._read_keys()
        finally:
            self._cut_the_unknown()

    def follow(self) -> None:
        """Read a changed file of keys anew: a key that was just made is good at once."""
        if self._config.keys_file is not None and self._version != version_of(self._config.keys_file):
            try:
                self.refresh()
            except LmxdError as error:
                log.error("no key is in force: %s", error)

    def _cut_the_unknown(self) -> None:
        for request in list(self._inside.values()):
            gone = request[CALLER] is not ANYBODY and self._known(request) != request[CALLER]
            if gone and request.transport is not None:
                cut(request.transport)

    def _read_keys(self) -> None:
        self._keys: Keys | None = None
        if self._config.keys_file is not None:
            self._version = version_of(self._config.keys_file)  # before the file is read: a later change is seen
            self._keys = Keys(self._config.keys_file)
            for problem in self._keys.problems:
                log.error("%s: it lets nobody in", problem)

    def known(self, key: str) -> Caller | None:
        """The owner of a key that is in force."""
        return None if self._keys is None else self._keys.caller(key)

    @contextlib.contextmanager
    def entered(self, request: web.Request) -> Iterator[Caller]:
        """The caller of a request, which may stay as long as its key is good. LmxdError ``not_permitted``."""
        self.follow()
        caller = request[CALLER] = self._known(request) or self._keyless(request)
        self._inside[id(request)] = request
        try:
            yield caller
        finally:
            del self._inside[id(request)]

    def _known(self, request: web.Request) -> Caller | None:
        """The owner of the key of a request. LmxdError ``not_permitted`` if a page of another site may have sent it."""
        if (caller := self.known(key_of(request.headers))) is None:
            return None
        if is_remembered(request.headers) and not self.origins.allow(request.headers):
            self._pages.require(request, harmless=True, any_host=True)
        return caller

    def _keyless(self, request: web.Request) -> Caller:
        """Nobody that is known. A key that browsers do not remember proves that no page of another site asks."""
        if request.path != _HEALTH and not self.origins.allow(request.headers):
            self._pages.require(request, harmless=request.path in _OPEN)
        if request.path not in _OPEN and not self._config.anonymous:
            raise _unknown(key_of(request.headers))
        return ANYBODY

    def is_open(self, request: web.Request) -> bool:
        """Whether strangers may ask for it."""
        return request.path in _OPEN
