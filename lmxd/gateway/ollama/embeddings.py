"""Vectors of texts as ollama gives them: as long as was asked for, and of a text that is too long, its begin."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec

from lmxd.errors import LmxdError
from lmxd.gateway.answers import engine_errors
from lmxd.gateway.answers.events import collected
from lmxd.gateway.answers.parts import Tokenized, Vectors, understood
from lmxd.gateway.http.upstream_call import UpstreamCall
from lmxd.gateway.leasing.leases import LeaseWish
from lmxd.gateway.requests.wanted import Embed
from lmxd.gateway.serving import Serving


class OllamaEmbeddings:
    """Has texts embedded."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    async def answer(self, wish: LeaseWish, said: Embed, texts: Sequence[str]) -> dict[str, Any]:
        """The answer of /api/embed. LmxdError. Durations are nanoseconds.

        It may take several leases: how long the model stays is said after the last.
        """
        begun, each, found = time.monotonic_ns(), replace(wish, keep_alive=False), Vectors(data=[])
        await self._serving.load(each)
        loaded = time.monotonic_ns()
        if texts:
            found = await self._vectors(each, texts, cut=said.truncate is not False)
        if wish.keep_alive:
            await self._serving.keep_alive(wish)
        return {
            "model": said.wanted,
            "embeddings": [_shortened(x.embedding, said.dimensions) for x in found.data],
            "total_duration": time.monotonic_ns() - begun,
            "load_duration": loaded - begun,
            "prompt_eval_count": found.usage.prompt_tokens,
        }

    async def _vectors(self, wish: LeaseWish, texts: Sequence[str], *, cut: bool) -> Vectors:
        try:
            return understood(await self._post(wish, "/v1/embeddings", input=texts), Vectors)
        except LmxdError as error:
            if not engine_errors.is_too_long(error.message):
                raise
            if not cut:
                raise LmxdError(
                    "invalid_params", f"input: {error.message}", "leave truncate out, or say less"
                ) from error
        context = (await self._serving.model(wish)).ctx
        ends = (await self._tokens(wish, ""))[1:]
        """The token after every text, of a model that has one before and one after it."""
        shorter = [await self._tokens(wish, text) for text in texts]
        shorter = [x if len(x) <= context else [*x[: context - len(ends)], *ends] for x in shorter]
        return understood(await self._post(wish, "/v1/embeddings", input=shorter), Vectors)

    async def _tokens(self, wish: LeaseWish, text: str) -> list[int]:
        return understood(await self._post(wish, "/tokenize", content=text, add_special=True), Tokenized).tokens

    async def _post(self, wish: LeaseWish, path: str, **said: Any) -> bytes:
        """The body of an engine's answer. LmxdError if it is an error."""
        call = UpstreamCall(path=path, body=msgspec.json.encode({"model": wish.model, **said}))
        async with self._serving.asked(wish, call) as (answer, head):
            found = await collected(answer, head)
            if head.status != 200:
                raise engine_errors.of_engine(found, head.status)
            return found


def _shortened(vector: list[float], dimensions: int | None) -> list[float]:
    """The first figures of a vector, made as long as one again; all, where there are no more."""
    if not dimensions or dimensions >= len(vector):
        return vector
    first = vector[:dimensions]
    length = math.sqrt(sum(x * x for x in first)) or 1.0
    return [x / length for x in first]
