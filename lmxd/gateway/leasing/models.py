"""The models that there are, as lmxd said a moment ago."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final
from urllib.parse import unquote

from lmxd.config.names import LATEST
from lmxd.errors import LmxdError
from lmxd.gateway.leasing.filters import Filter
from lmxd.rpc.books import ModelInfo, Models, VariantInfo
from lmxd.rpc.client import AsyncClient

_FRESH: Final = 1.0
"""Seconds for which a list is good: a burst of requests asks but once."""
_RENEW: Final = 0.5
"""Seconds after which the next is asked for, while the one at hand still answers: nobody waits for it."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """The model that a name means, and the variant of it, if it is the name of one."""

    name: str
    model: ModelInfo
    variant: VariantInfo | None = None

    @property
    def filters(self) -> list[Filter]:
        """The changes to its requests, the variant's after the model's."""
        return [each for each in (self.model, self.variant) if each is not None and (each.set or each.strip)]


class KnownModels:
    """The daemon's list of models, asked for at most twice a second."""

    def __init__(self, client: AsyncClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._known: Sequence[ModelInfo] = ()
        self._known_since = float("-inf")
        """When that list was asked for."""
        self._asked: asyncio.Task[Models] | None = None
        self._names: tuple[Sequence[ModelInfo], Mapping[str, Meaning]] | None = None
        """A list, and the meanings of names in it."""

    async def all(self) -> Sequence[ModelInfo]:
        """Requests that come at the same time ask but once, and get the same list."""
        now = self._clock()
        if self._asked is None and now - self._known_since >= _RENEW:
            self._asked = asyncio.get_running_loop().create_task(self._client.models())
            self._asked.add_done_callback(partial(self._came, now))
        if self._asked is not None and now - self._known_since >= _FRESH:
            return (await asyncio.shield(self._asked)).models
        return self._known

    def _came(self, begun: float, asked: asyncio.Task[Models]) -> None:
        if asked is not self._asked:
            return  # it was asked before what is known now
        self._asked = None
        if not asked.cancelled() and asked.exception() is None:
            self._known, self._known_since = asked.result().models, begun

    def forget(self) -> None:
        """Ask again at the next look: there is a model more, which an answer that is on its way may lack."""
        self._asked, self._known_since = None, float("-inf")

    async def of_path(self, path: str) -> tuple[str, str]:
        """(the model, the rest) of a path that begins with a model's name, encoded or not. The longest name counts.

        A name that nobody knows is taken to end at the first slash.
        """
        words = path.split("/")
        known = await self.meanings()
        for count in range(len(words), 0, -1):
            if (name := unquote("/".join(words[:count]))) in known:
                return name, "/".join(words[count:])
        return unquote(words[0]), "/".join(words[1:])

    async def named(self, name: str, lists: str) -> ModelInfo:
        """The model that any name of it means. LmxdError ``unknown_model``; ``lists``: where there is a list."""
        return (await self.meaning(name, lists)).model

    async def meaning(self, name: str, lists: str) -> Meaning:
        """The model, and its variant, that a name means. LmxdError as above."""
        return meant_by(name, await self.meanings(), lists)

    async def listed(self) -> list[Meaning]:
        """Every name that is in lists of models, variants after the model that they are of."""
        found = await self.all()
        return [self._of(found)[name] for model in found for name in model.names]

    async def meanings(self) -> Mapping[str, Meaning]:
        """By every name that a model may be asked for by."""
        return self._of(await self.all())

    def _of(self, found: Sequence[ModelInfo]) -> Mapping[str, Meaning]:
        if self._names is None or self._names[0] is not found:
            self._names = found, meanings_of(found)
        return self._names[1]


def meant_by(name: str, meanings: Mapping[str, Meaning], lists: str) -> Meaning:
    """The meaning of a name. LmxdError ``unknown_model``; ``lists``: where there is a list."""
    if name in meanings:
        return meanings[name]
    raise LmxdError("unknown_model", f"there is no model {name!r}", f"{lists} lists them")


def meanings_of(models: Sequence[ModelInfo]) -> dict[str, Meaning]:
    """A model has its own name, whatever others are called beside theirs: lmxd means the same.

    ollama's clients say llama for llama:latest, and the reverse.
    """
    found = {model.model: Meaning(model.model, model) for model in models}
    for model in models:
        for name in model.aliases:
            found.setdefault(name, Meaning(name, model))
    for model in models:
        for variant in model.variants:
            for name in (variant.name, *variant.aliases):
                found.setdefault(name, Meaning(name, model, variant))
    for name, meant in list(found.items()):
        other = name.removesuffix(LATEST) if name.endswith(LATEST) else name + LATEST
        if name.endswith(LATEST) or ":" not in name:
            found.setdefault(other, replace(meant, name=other))
    return found
