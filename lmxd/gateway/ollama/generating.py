"""ollama's requests for tokens, over the same leases."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from aiohttp import web

from lmxd.errors import LmxdError
from lmxd.gateway.answers import engine_errors
from lmxd.gateway.answers.events import collected, events
from lmxd.gateway.http.http1 import Head
from lmxd.gateway.http.paths import routes
from lmxd.gateway.http.relayed_answer import RelayedAnswer
from lmxd.gateway.http.upstream_call import UpstreamCall
from lmxd.gateway.leasing.leases import LeaseWish
from lmxd.gateway.ollama import translation
from lmxd.gateway.ollama.durations import keep_alive
from lmxd.gateway.ollama.embeddings import OllamaEmbeddings
from lmxd.gateway.ollama.lines import LineReply
from lmxd.gateway.requests.bodies import Bodies
from lmxd.gateway.requests.wanted import Chat, Embed, Generate, LegacyEmbed, Message, Question, decode_all
from lmxd.gateway.serving import Serving

log = logging.getLogger(__name__)
_MAX_CONTEXT: Final = 2**31
"""More than any model was trained for: a number of JSON may be infinite."""
Shape = Callable[[dict[str, Any]], dict[str, Any]]


class Ollama:
    """The routes of ollama's API that ask a model."""

    def __init__(self, serving: Serving, bodies: Bodies) -> None:
        self._serving = serving
        self._bodies = bodies
        self._embeddings = OllamaEmbeddings(serving)

    def routes(self) -> list[web.RouteDef]:
        return [
            *routes("POST", "/api/chat", self._chat),
            *routes("POST", "/api/generate", self._generate),
            *routes("POST", "/api/embed", self._embed),
            *routes("POST", "/api/embeddings", self._embed_one),
        ]

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        said = decode_all(await self._bodies.read(request), Chat)
        if not said.messages:
            return await self._loaded(request, said, {"message": {"role": "assistant", "content": ""}})

        def shape(message: dict[str, Any]) -> dict[str, Any]:
            beside = {key: value for key, value in message.items() if key == "logprobs"}
            inside = {key: value for key, value in message.items() if key not in beside}
            return {"message": {"role": "assistant", "content": "", **inside}, **beside}

        body = translation.asked(said, said.messages)
        return await self._answer(request, said, "/v1/chat/completions", body, shape)

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        said = decode_all(await self._bodies.read(request), Generate)
        if said.suffix:
            raise LmxdError("invalid_params", "suffix: not known here", "POST /upstream/MODEL/infill has it")
        if not said.prompt:
            return await self._loaded(request, said, {"response": ""})

        def shape(message: dict[str, Any]) -> dict[str, Any]:
            beside = {key: value for key, value in message.items() if key in ("thinking", "logprobs")}
            return {"response": message.get("content", ""), **beside}

        if said.raw and said.images:
            raise LmxdError("invalid_params", "images: a raw prompt has none", "leave raw out, or POST /api/chat")
        if said.raw:
            body = translation.options(said) | translation.raw_logprobs(said) | {"prompt": said.prompt}
            return await self._answer(request, said, "/v1/completions", body, shape)
        system = [Message(role="system", content=said.system)] if said.system else []
        body = translation.asked(said, [*system, Message(content=said.prompt, images=said.images)])
        return await self._answer(request, said, "/v1/chat/completions", body, shape)

    async def _embed(self, request: web.Request) -> web.StreamResponse:
        said = decode_all(await self._bodies.read(request), Embed)
        texts = said.input if isinstance(said.input, list) else [said.input] if said.input else []
        return await self._embedded(request, said, lambda wish: self._embeddings.answer(wish, said, texts))

    async def _embed_one(self, request: web.Request) -> web.StreamResponse:
        """The older route, of one text."""
        said = decode_all(await self._bodies.read(request), LegacyEmbed)
        whole = Embed(model=said.wanted)
        texts = [said.prompt] if said.prompt else []

        async def answer(wish: LeaseWish) -> dict[str, Any]:
            found = await self._embeddings.answer(wish, whole, texts)
            return {"embedding": found["embeddings"][0] if texts else []}

        return await self._embedded(request, said, answer)

    async def _embedded(
        self, request: web.Request, said: Question, answer: Callable[[LeaseWish], Any]
    ) -> web.StreamResponse:
        reply = LineReply(request, streams=False)
        async with reply.waiting():
            try:
                await reply.send(await answer(self._wish(request, said)))
                return await reply.end()
            except LmxdError as error:
                return await reply.fail(error)

    async def _loaded(self, request: web.Request, said: Question, empty: dict[str, Any]) -> web.StreamResponse:
        """Load the model of an empty request, or have it end once it is idle."""
        unloads = said.keep_alive is not None and keep_alive(said.keep_alive) == 0
        reply = LineReply(request, streams=said.stream is not False)
        async with reply.waiting():
            try:
                wish = self._wish(request, said)
                await (self._serving.keep_alive(wish) if unloads else self._serving.load(wish))
                reason = "unload" if unloads else "load"
                await reply.send(_line(said.wanted, empty) | {"done": True, "done_reason": reason})
                return await reply.end()
            except LmxdError as error:
                return await reply.fail(error)

    async def _answer(
        self, request: web.Request, said: Question, path: str, body: dict[str, Any], shape: Shape
    ) -> web.StreamResponse:
        """The translation of an answer: line by line, or as one object. An error, of whatever kind, ends it."""
        wish, reply = self._wish(request, said), LineReply(request, streams=said.stream is not False)
        call, begun = UpstreamCall(path=path, body=msgspec.json.encode(body)), time.monotonic_ns()
        async with reply.waiting():
            try:
                async with self._serving.asked(wish, call) as (answer, head):
                    told = _Told(said.wanted, shape, begun)
                    await (told.whole if said.stream is False else told.lines)(reply, answer, head)
                return await reply.end()
            except LmxdError as error:
                return await reply.fail(error)
            except ConnectionError:
                raise  # the client's: there is nobody to tell
            except Exception as error:
                log.exception("%s %s", request.method, request.path)
                return await reply.fail(LmxdError("internal", f"{type(error).__name__}: {error}", "report this"))

    def _wish(self, request: web.Request, said: Question) -> LeaseWish:
        context = min((said.options and said.options.num_ctx) or 0, _MAX_CONTEXT)
        wish = replace(self._serving.wish(request, said.wanted), ctx=int(context) if context >= 1 else None)
        if said.keep_alive is None:
            return wish
        return replace(wish, keep_alive=True, stays=keep_alive(said.keep_alive))


class _Told:
    """One answer of an engine as it is told. ``begun``: nanoseconds, when it was asked for."""

    def __init__(self, model: str, shape: Shape, begun: int) -> None:
        self._model = model
        self._shape = shape
        self._begun, self._loaded = begun, time.monotonic_ns()
        self._found = translation.Answer()

    async def lines(self, reply: LineReply, answer: RelayedAnswer, head: Head) -> None:
        async for message in self._messages(answer, head):
            await reply.send(_line(self._model, self._shape(message)) | {"done": False})
        await reply.send(self._last(self._shape({})))

    async def whole(self, reply: LineReply, answer: RelayedAnswer, head: Head) -> None:
        whole = translation.Whole()
        async for message in self._messages(answer, head):
            whole.add(message)
        await reply.send(self._last(self._shape(whole.message)))

    async def _messages(self, answer: RelayedAnswer, head: Head) -> AsyncIterator[dict[str, Any]]:
        if head.status != 200:
            raise engine_errors.of_engine(await collected(answer, head), head.status)
        async for chunk in events(answer, head):
            if message := self._found.take(chunk):
                yield message

    def _last(self, shaped: dict[str, Any]) -> dict[str, Any]:
        """Durations are nanoseconds. Clients divide by that of the answer, which some engines do not say."""
        now = time.monotonic_ns()
        return _line(self._model, shaped) | {
            "done": True,
            "done_reason": self._found.reason,
            "total_duration": now - self._begun,
            "load_duration": self._loaded - self._begun,
            "eval_duration": now - self._loaded,
            **self._found.counts,
        }


def _line(model: str, shaped: dict[str, Any]) -> dict[str, Any]:
    return {"model": model, "created_at": datetime.now(UTC).isoformat().replace("+00:00", "Z"), **shaped}
