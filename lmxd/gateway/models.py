"""The models that there are, as lmxd said a moment ago."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import unquote

from lmxd.errors import LmxdError
from lmxd.rpc.books import ModelInfo, Models
from lmxd.rpc.client import AsyncClient

LATEST: Final = ":latest"
"""The tag of a name that has none, as ollama has it."""
_FRESH: Final = 1.0
"""Seconds for which the list is good: a burst of requests asks but once."""


class KnownModels:
    """The daemon's list of models, asked for at most once a second."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._asked: asyncio.Task[Models] | None = None
        self._asked_at = float("-inf")
        self._names: tuple[Sequence[ModelInfo], Mapping[str, ModelInfo]] | None = None
        """A list, and its models by name."""

    async def all(self) -> Sequence[ModelInfo]:
        """Requests that come at the same time ask but once."""
        now = time.monotonic()
        if self._asked is None or now - self._asked_at >= _FRESH:
            self._asked_at, self._asked = now, asyncio.get_running_loop().create_task(self._client.models())
        return (await asyncio.shield(self._asked)).models

    def forget(self) -> None:
        """Ask again at the next look: there is a model more."""
        self._asked = None

    async def of_path(self, path: str) -> tuple[str, str]:
        """(the model, the rest) of a path that begins with a model's name, encoded or not. The longest name counts.

        A name that nobody knows is taken to end at the first slash.
        """
        words = path.split("/")
        known = await self._called()
        for count in range(len(words), 0, -1):
            if (name := unquote("/".join(words[:count]))) in known:
                return name, "/".join(words[count:])
        return unquote(words[0]), "/".join(words[1:])

    async def named(self, name: str, lists: str) -> ModelInfo:
        """The one that a name or an alias means. LmxdError ``unknown_model``; ``lists``: where there is a list."""
        found = await self._called()
        if name in found:
            return found[name]
        raise LmxdError("unknown_model", f"there is no model {name!r}", f"{lists} lists them")

    async def _called(self) -> Mapping[str, ModelInfo]:
        found = await self.all()
        if self._names is None or self._names[0] is not found:
            self._names = found, _by_name(found)
        return self._names[1]


def _by_name(models: Sequence[ModelInfo]) -> dict[str, ModelInfo]:
    """The models by all their names. ollama's clients say llama for llama:latest, and the reverse."""
    found = {called: model for model in models for called in (model.model, *model.aliases)}
    for called, model in list(found.items()):
        if called.endswith(LATEST):
            found.setdefault(called.removesuffix(LATEST), model)
        elif ":" not in called:
            found.setdefault(called + LATEST, model)
    return found
