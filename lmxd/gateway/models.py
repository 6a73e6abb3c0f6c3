"""The models that there are, as lmxd said a moment ago."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote

from lmxd.errors import LmxdError
from lmxd.rpc.books import ModelInfo, Models
from lmxd.rpc.client import AsyncClient

_FRESH: Final = 1.0
"""Seconds for which the list is good: a burst of requests asks but once."""


class KnownModels:
    """The daemon's list of models, asked for at most once a second."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._asked: asyncio.Task[Models] | None = None
        self._asked_at = float("-inf")

    async def all(self) -> Sequence[ModelInfo]:
        """Requests that come at the same time ask but once."""
        now = time.monotonic()
        if self._asked is None or now - self._asked_at >= _FRESH:
            self._asked_at, self._asked = now, asyncio.get_running_loop().create_task(self._client.models())
        return (await asyncio.shield(self._asked)).models

    async def of_path(self, path: str) -> tuple[str, str]:
        """(the model, the rest) of a path that begins with a model's name, encoded or not. The longest name counts.

        A name that nobody knows is taken to end at the first slash.
        """
        words = path.split("/")
        known = {called for model in await self.all() for called in (model.model, *model.aliases)}
        for count in range(len(words), 0, -1):
            if (name := unquote("/".join(words[:count]))) in known:
                return name, "/".join(words[count:])
        return unquote(words[0]), "/".join(words[1:])

    async def named(self, name: str, lists: str) -> ModelInfo:
        """The one that a name or an alias means. LmxdError ``unknown_model``; ``lists``: where there is a list."""
        found = {called: model for model in await self.all() for called in (model.model, *model.aliases)}
        if name in found:
            return found[name]
        raise LmxdError("unknown_model", f"there is no model {name!r}", f"{lists} lists them")
