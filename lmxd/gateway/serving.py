"""One request of a client: a model is leased for it, its instance asked, the answer relayed."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from aiohttp import web

from lmxd.errors import LmxdError
from lmxd.gateway.answers.message_events import MessageEvents
from lmxd.gateway.answers.reply import Reply
from lmxd.gateway.answers.response_events import ResponseEvents
from lmxd.gateway.answers.signs_of_life import EVENTS
from lmxd.gateway.answers.stream_events import StreamEvents
from lmxd.gateway.growing import Anew, RequestGrowth
from lmxd.gateway.growths import as_alone, growth_of
from lmxd.gateway.http.forms import is_form
from lmxd.gateway.http.http1 import Head
from lmxd.gateway.http.relayed_answer import RelayedAnswer
from lmxd.gateway.http.upstream import Exchange, Unreachable, exchange
from lmxd.gateway.http.upstream_call import UpstreamCall
from lmxd.gateway.leasing.leases import Leases, LeaseWish
from lmxd.gateway.leasing.models import KnownModels, Meaning, meant_by
from lmxd.gateway.leasing.progress import RequestProgress
from lmxd.gateway.leasing.remedies import Remedies
from lmxd.gateway.leasing.stated import UNSTATED
from lmxd.gateway.metrics import GatewayMetrics
from lmxd.gateway.placing import Placing
from lmxd.gateway.recent import RecentRequests
from lmxd.gateway.requests.adapters import require_adapters
from lmxd.gateway.requests.answer_format import with_format
from lmxd.gateway.requests.authentication import ANYBODY, CALLER, QUIET, STATED
from lmxd.gateway.requests.engine_body import engine_body
from lmxd.gateway.requests.media import may_be_object, require_media
from lmxd.gateway.requests.patience import patience
from lmxd.gateway.requests.prompts import takes_slot
from lmxd.gateway.requests.upstream_names import by_upstream_name
from lmxd.gateway.traced import TracedPrompt
from lmxd.gateway.walls import Beyond, RequestWall
from lmxd.rpc.books import ModelInfo
from lmxd.rpc.client import AsyncLease
from lmxd.text import escaped, shortened

_LIST: Final = "/v1/models"
_PAUSES: Final = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 3.2)
"""Seconds before each try: an instance may have ended just now, and lmxd is about to notice. It has ended when the last
of its processes has, for which an engine of several is given five seconds, and two more."""
_HANDED_ON: Final = frozenset(("content-type", "accept", "accept-language", "user-agent"))
_STEP: Final = 16384
"""Contexts are powers of two up to this one, and multiples of it."""
_MAX_CONTEXT: Final = 2**27
"""As large as a profile's may be."""
PRIORITY: Final = "X-Lmxd-Priority"
"""The header with the class of a request in the queue."""
_CLASS: Final = re.compile(r"-?[0-9]{1,3}")
_MAX_CLASS: Final = 100


class Serving:
    """Serves requests: leases a model, asks its instance, and relays the answer.

    ``wait``: seconds that a request may wait in a queue, unless it says otherwise. ``remote_media``: engines may fetch
    pictures and sound.
    """

    def __init__(
        self,
        leases: Leases,
        models: KnownModels,
        metrics: GatewayMetrics,
        recent: RecentRequests,
        wait: float | None,
        *,
        remote_media: bool = False,
    ) -> None:
        self._leases = leases
        self._models = models
        self._metrics = metrics
        self._recent = recent
        self._wait = wait
        self._remote_media = remote_media
        self._remedies = Remedies(models, wait)
        self._slots = leases.slots
        self._placing = Placing(leases)

    async def hand_on(
        self, request: web.Request, wish: LeaseWish, path: str, body: bytes, *, streams: bool
    ) -> web.StreamResponse:
        """A client's request as it is, and the answer as it comes."""
        call = UpstreamCall(
            method=request.method,
            path=path,
            body=body,
            headers={name: value for name, value in request.headers.items() if name.lower() in _HANDED_ON},
        )
        events = _events(path, wish.model) if streams else None
        life = EVENTS if streams and not request.get(QUIET, False) else None
        reply = Reply(request, wish.model, life=life, events=events)
        try:
            async with self.asked(wish, call, reply.progress) as (answer, head):
                return await reply.relay(answer, head)
        except LmxdError as error:
            return reply.fail(error)
        except Exception:
            reply.cut()
            raise
        finally:
            reply.stop_signs()

    @contextlib.asynccontextmanager
    async def asked(
        self, wish: LeaseWish, call: UpstreamCall, told: Callable[[RequestProgress], None] = lambda _: None
    ) -> AsyncIterator[tuple[RelayedAnswer, Head]]:
        """An instance's answer, of which the head has come; its lease lasts as long as the block.

        LmxdError if there is none to be had.
        """
        with self._recent.noted(wish, call) as note, self._metrics.serving() as served:
            note.served = served
            meanings = await self._models.meanings()
            meant = meant_by(wish.model, meanings, _LIST)
            call = self._for_engine(call, meant, meanings)
            wish = _of(meant.model, wish, asks=takes_slot(call))
            served.model = wish.model
            growth = growth_of(self._leases, meant.model, call, wish, told, served.met_wall)
            call = as_alone(meant.model, call) if growth is None else call
            sent = TracedPrompt(call, None if growth is None else growth.trace)
            if growth is None and self._slots.several and sent.trace is not None:
                wish = replace(wish, near=self._slots.of_conversation(wish.model, sent.trace)[2] or None)
            for pause in _PAUSES:
                if pause:
                    await asyncio.sleep(pause)
                with contextlib.suppress(Anew):
                    async with self._leased(wish, told, growth) as lease, contextlib.AsyncExitStack() as stack:
                        served.leased()
                        if growth is not None:
                            lease = await growth.room(lease, call)
                        told(RequestProgress(state="served", instances=(lease.instance,)))
                        try:
                            answer, head = await stack.enter_async_context(self._answered(lease, sent, growth))
                        except Unreachable:
                            self._leases.unfit(lease)
                            continue
                        note.edges = answer.edges
                        yield answer, head
                        served.status = answer.outcome(head)
                        return
            raise Unreachable(wish.model, "no instance of it could be reached")

    @contextlib.asynccontextmanager
    async def _answered(
        self, lease: AsyncLease, sent: TracedPrompt, growth: RequestGrowth | None, held: int | None = None
    ) -> AsyncIterator[tuple[RelayedAnswer, Head]]:
        """The answer of a leased instance. One that its engine refused as too long is asked again, once.

        One that fills its context goes on in an instance with more. ``held``: the slot that the request has already.
        """
        asked = sent
        if growth is not None and (call := growth.as_sent(lease, asked.call)) is not asked.call:
            sent = TracedPrompt(call, growth.trace)
        lay = None if growth is None else growth.lies_in(lease)
        async with (
            self._placing.placed(lease, sent, growth, held) as (placed, slot),
            self._heard(lease, by_upstream_name(placed, lease), slot) as answer,
        ):
            head = await answer.head()
            grown = None if growth is None else await growth.again(lease, answer, head, lay)
            if grown is None:
                async with self._beyond(growth, lease, asked.call, slot)(answer, head) as found:
                    yield found
                    if slot is not None:
                        self._slots.filled(lease, slot, *found[0].edges.tokens)
                return
        async with self._answered(grown, asked, growth) as found:
            yield found

    @contextlib.asynccontextmanager
    async def _heard(self, lease: AsyncLease, call: UpstreamCall, slot: int | None) -> AsyncIterator[Exchange]:
        """The answer to a call, which is closed behind the block. Raises Unreachable."""
        try:
            answer = await exchange(lease, call, self._leases.connections)
        except asyncio.CancelledError:
            self._leases.abandon(lease, slot)
            raise
        try:
            with contextlib.closing(answer):
                yield answer
        finally:
            if answer.left:
                self._leases.abandon(lease, slot)

    def _beyond(self, growth: RequestGrowth | None, lease: AsyncLease, call: UpstreamCall, slot: int | None) -> Beyond:
        """The answer to a call as its client is to have it, which may be more than its instance says."""
        if growth is None or not growth.may_meet_wall(lease):
            return lambda answer, head: contextlib.nullcontext((answer, head))
        return RequestWall(growth, lease, call, slot, partial(self._answered_call, growth)).beyond

    def _answered_call(
        self, growth: RequestGrowth, lease: AsyncLease, call: UpstreamCall, held: int | None
    ) -> contextlib.AbstractAsyncContextManager[tuple[RelayedAnswer, Head]]:
        """The answer to a further call of the same request, as where that goes on with what was said."""
        return self._answered(lease, TracedPrompt(call), growth, held)

    def _for_engine(self, call: UpstreamCall, meant: Meaning, names: Mapping[str, Meaning]) -> UpstreamCall:
        """A call as its engine understands it: it knows one name of its model, nothing of variants, and few formats.

        LmxdError for what its model cannot do, before that is loaded for it.
        """
        kind = call.content_type
        body = with_format(call.path.partition("?")[0], engine_body(call.body, kind, meant, names))
        if not is_form(kind) or may_be_object(body):
            require_media(body, meant.model, remote=self._remote_media)
            require_adapters(call.path.partition("?")[0], body, meant.model)
        return call if body is call.body else replace(call, body=body)

    @contextlib.asynccontextmanager
    async def _leased(
        self, wish: LeaseWish, told: Callable[[RequestProgress], None], growth: RequestGrowth | None = None
    ) -> AsyncIterator[AsyncLease]:
        """A lease, of the size that ``growth`` begins with. LmxdError with a remedy for HTTP's clients."""
        try:
            async with self._leases.lease(wish if growth is None else growth.begins_with(wish), told) as lease:
                yield lease
        except Anew:
            raise
        except LmxdError as error:
            if mended := await self._remedies.mended(error, wish):
                raise mended from error
            raise

    def wish(self, request: web.Request, model: str) -> LeaseWish:
        """The lease that a request wants, for the caller of its key. LmxdError if its headers cannot be meant."""
        caller = request[CALLER]
        user = None if caller is ANYBODY else caller.name
        return LeaseWish(
            model=model,
            user=user,
            wait=patience(request.headers, self._wait),
            stated=request.get(STATED, UNSTATED),
            priority=_priority(request, user),
        )

    async def load(self, wish: LeaseWish) -> None:
        """Have it started, and ask it nothing."""
        wish = _of(await self.model(wish), wish, asks=False)
        async with self._leased(wish, lambda _: None):
            pass

    async def keep_alive(self, wish: LeaseWish) -> None:
        """Have the instances of its model stay as long as it says."""
        await self._leases.keep_alive(_of(await self.model(wish), wish))

    async def model(self, wish: LeaseWish) -> ModelInfo:
        """The model that a wish names. LmxdError ``unknown_model``."""
        return await self._models.named(wish.model, _LIST)


def _priority(request: web.Request, user: str | None) -> int | None:
    """The class that a request asks for. Without a key, it is no higher than that of all: anybody may send it."""
    said = request.headers.get(PRIORITY)
    if said is None:
        return None
    if not _CLASS.fullmatch(said.strip()) or abs(int(said)) > _MAX_CLASS:
        what = f"{PRIORITY} is {shortened(escaped(said), 80)}"
        raise LmxdError("invalid_params", what, f"give a whole number from -{_MAX_CLASS} to {_MAX_CLASS}")
    if user is None and int(said) > 0:
        what = f"{PRIORITY} is {said.strip()}, but requests without a key may ask for 0 at most"
        raise LmxdError("not_permitted", what, "send a key")
    return int(said)


def _of(model: ModelInfo, wish: LeaseWish, *, asks: bool = True) -> LeaseWish:
    """The wish by the model's own name, and with a context of few sizes: clients say another with each request.

    A context that the usual one has room for, or grows to, is had with it, and one beyond the trained is that, as
    ollama has it. ``asks``: a prompt is sent by it. Without one, it takes nothing of a cache that others share, beyond
    which there is no context.
    """
    if model.elastic is not None and model.elastic.unified:
        return replace(wish, model=model.model, ctx=None, bounded=not asks, shared=True)
    trained = (model.file and model.file.trained_ctx) or _MAX_CONTEXT
    least = min(wish.ctx or 0, trained)
    if least <= model.ctx_most:
        return replace(wish, model=model.model, ctx=None)
    step = min(_STEP, 1 << (least - 1).bit_length())
    return replace(wish, model=model.model, ctx=min(-(-least // step) * step, trained), least_ctx=least)


def _events(path: str, model: str) -> StreamEvents | None:
    """The events of an answer, where llama-server leaves out what clients need."""
    path = path.partition("?")[0]
    if path.endswith("/responses"):
        return ResponseEvents(model)
    return MessageEvents(model) if path.endswith("/messages") else None
