"""Bodies of requests: bounded each, by caller and together, and read no slower than they must come."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final

from aiohttp import web

from lmxd.config.keys import Caller
from lmxd.errors import LmxdError
from lmxd.gateway.http.packing import ENCODINGS, Unpacking
from lmxd.gateway.requests.authentication import CALLER
from lmxd.gateway.requests.failures import StatusError

GRACE: Final = 10.0
"""Seconds that a body may take however short it is; as long as nothing comes, it must not take longer."""
_RATE: Final = 64 * 1024
"""Bytes per second that must come beyond that: a slow mobile network's."""
_HELD: Final = web.RequestKey("held", int)


class Bodies:
    """The bodies that are held for requests, from their first byte until the request ends.

    ``each``, ``together``: the most bytes of one, and of all. A caller has at most half of those.
    """

    def __init__(self, *, each: int, together: int) -> None:
        self._each, self._together = each, max(together, each)
        self._mine = max(together // 2, each)
        self._held: Counter[Caller] = Counter()

    @property
    def held(self) -> int:
        return self._held.total()

    async def read(self, request: web.Request) -> bytes:
        """The whole body. LmxdError if it is too large, too slow, or too much besides others."""
        encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
        encoding = "gzip" if encoding == "x-gzip" else encoding  # RFC 9110, 8.4.1.3
        if encoding not in ENCODINGS:
            remedy = f"send it as it is, or as one of {', '.join(ENCODINGS[1:])}"
            raise StatusError(415, "invalid_request", f"Content-Encoding: {ascii(encoding)[:80]} is not known", remedy)
        self._check(request.content_length or 0)
        body, loop, unpacking = bytearray(), asyncio.get_running_loop(), Unpacking(encoding)
        begun = loop.time()
        try:
            while not request.content.at_eof():
                if not (packed := request.content.read_nowait()):
                    async with asyncio.timeout_at(begun + GRACE + len(body) / _RATE):
                        packed = await request.content.readany()
                for piece in unpacking.pieces(packed):
                    self._hold(request, len(piece))
                    body += piece
                    self._check(len(body))
                    if unpacking.is_work:
                        await asyncio.sleep(0)
            if not unpacking.whole:
                raise ValueError("it ends too soon")
        except TimeoutError:
            raise LmxdError("invalid_request", f"the body comes too slowly: {len(body)} bytes so far", "") from None
        except (web.RequestPayloadError, ValueError) as error:
            raise LmxdError("invalid_request", f"the body is cut short or malformed: {error}", "") from error
        return bytes(body)

    def release(self, request: web.Request) -> None:
        """The request has ended."""
        caller = request.get(CALLER)
        if caller is not None and (held := request.get(_HELD, 0)):
            self._held[caller] -= held
            if not self._held[caller]:
                del self._held[caller]

    def _check(self, size: int) -> None:
        if size > self._each:
            most = f"{self._each / 2**20:g} MiB is the most"
            raise StatusError(413, "invalid_request", f"the body is too large: {most}", "raise gateway.max_body_mb")

    def _hold(self, request: web.Request, size: int) -> None:
        caller = request[CALLER]
        if self._held[caller] + size > self._mine or self.held + size > self._together:
            raise LmxdError("too_many", "the bodies of the requests at hand are too many bytes", "ask again later")
        self._held[caller] += size
        request[_HELD] = request.get(_HELD, 0) + size
