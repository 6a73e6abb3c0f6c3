"""An answer as lines of JSON, as ollama streams; begun with spaces, which no reader of JSON minds, while there is none.

Node ends a request whose head, or next byte, does not come for 300 s; a model may be waited for longer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, Final

from aiohttp import web

from lmxd.errors import LmxdError
from lmxd.gateway.answers.reply import sent
from lmxd.gateway.answers.signs_of_life import LINES, OBJECT
from lmxd.gateway.leasing.remedies import said
from lmxd.gateway.requests.authentication import QUIET
from lmxd.listening.connection import cut

_LIFE: Final = 10.0
"""Seconds between signs of life."""


class LineReply:
    """The answer to one request: lines, or a single object. ``patience``: seconds until it begins without an answer."""

    def __init__(self, request: web.Request, *, streams: bool, patience: float | None = None) -> None:
        self._request = request
        self._streams = streams
        self._patience = (LINES if streams else OBJECT).patience if patience is None else patience
        kind = {"Content-Type": LINES.content_type, "X-Accel-Buffering": "no"}  # nginx sends each line on at once
        self._response = web.StreamResponse(headers=kind if streams else {"Content-Type": OBJECT.content_type})

    @contextlib.asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Signs of life until the block ends, or is answered."""
        self._living = asyncio.get_running_loop().create_task(self._live())
        try:
            yield
        finally:
            await self._quiet()

    async def send(self, value: dict[str, Any]) -> None:
        """One line, or the object. ConnectionError if its client has gone."""
        await self._quiet()
        await self._begin()
        await sent(self._response, json.dumps(value).encode() + b"\n")

    async def end(self) -> web.StreamResponse:
        await self._response.write_eof()
        return self._response

    async def fail(self, error: LmxdError) -> web.StreamResponse:
        """An error as the last line. It is raised instead, for the status to tell, if nothing was sent.

        An object that was begun ends with its connection: nobody takes it for a success.
        """
        await self._quiet()
        if not self._response.prepared:
            raise error
        await self.send({"error": said(error)})
        if not self._streams and self._request.transport is not None:
            cut(self._request.transport)
            raise ConnectionResetError("an answer that was begun cannot become an error") from error
        return await self.end()

    async def _live(self) -> None:
        if self._request.get(QUIET, False):
            return
        await asyncio.sleep(self._patience)
        with contextlib.suppress(ConnectionError):  # whoever sends the answer will find that out
            while True:
                await self._begin()
                await sent(self._response, b" ")
                await asyncio.sleep(_LIFE)

    async def _begin(self) -> None:
        if not self._response.prepared:
            await self._response.prepare(self._request)

    async def _quiet(self) -> None:
        self._living.cancel()
        await asyncio.wait([self._living])
