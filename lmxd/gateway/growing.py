"""Requests of elastic models get the context that they need before they are sent: their lease grows first.

A short request costs nothing: its bytes tell that it fits. Another is counted by its engine. A growth takes as long as
the start of a larger instance, and its conversation is carried along.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import msgspec
from msgspec import Struct

from lmxd.errors import LmxdError
from lmxd.gateway.answers.written import Written
from lmxd.gateway.counting import Counting
from lmxd.gateway.http.http1 import Head
from lmxd.gateway.http.upstream import Exchange
from lmxd.gateway.http.upstream_call import UpstreamCall
from lmxd.gateway.leasing.leases import Leases, LeaseWish
from lmxd.gateway.leasing.progress import RequestProgress
from lmxd.gateway.leasing.slots import Cells
from lmxd.gateway.leasing.traces import trace
from lmxd.gateway.requests.failures import TOO_LONG, TooLongError
from lmxd.gateway.requests.need import Need
from lmxd.rpc.books import ElasticInfo
from lmxd.rpc.client import AsyncLease

_REFUSED: Final = 400
_MOST_OF_ERROR: Final = 64 * 1024
"""Bytes of an error that is looked at: another is passed on as it comes."""
FITTING: Final = 10.0
"""Seconds in the queue for a prompt that fits: only its answer may need more, and there is no more for as long as
somebody else keeps what it waits for.
"""
AT_WALL: Final = 300.0
"""Seconds in the queue for an answer that is held back: its client had its end at once with a fixed context."""

_NOT_BESIDE: Final = frozenset(("never_fits", "no_capacity"))
"""Codes of growths that have no room beside the instance that they come from, though there may be without it."""
GONE: Final = frozenset(("cancelled", "lease_ended"))
"""Codes of growths whose lease has ended meanwhile, as with an engine that died: another may be had."""


class Anew(LmxdError):
    """The order to give a lease back, and to ask for one of the size that its request needs."""

    def __init__(self, error: LmxdError) -> None:
        super().__init__(error.code, error.message, error.remedy, error.data)


@dataclass(frozen=True, kw_only=True, slots=True)
class Wall:
    """The place where an answer ended though it was not over.

    ``slot``: the one that it was written in; None if not known. ``is_continued``: what is asked for is its rest,
    else the same again.
    """

    lease: AsyncLease
    written: Written
    slot: int | None
    is_continued: bool


class _Problem(Struct):
    """The figures of llama-server's error."""

    type: str = ""
    n_prompt_tokens: int = 0


class _Refusal(Struct):
    """An answer of llama-server that is no success."""

    error: _Problem


class RequestGrowth:
    """The context of one request: guessed before its lease is asked for, counted before it is sent.

    ``told``: hears how it stands. ``met_wall``: hears how an answer went on that filled its context.
    """

    def __init__(
        self,
        leases: Leases,
        elastic: ElasticInfo,
        need: Need,
        wait: float | None,
        told: Callable[[RequestProgress], None],
        met_wall: Callable[[str], None],
    ) -> None:
        self._leases, self._slots, self._shelf = leases, leases.slots, leases.shelf
        self._counting = Counting(leases.connections)
        self._elastic = elastic
        self._need = need
        self._wait = wait
        self.told = told
        self.met_wall = met_wall
        self._least: int | None = None
        """The context to ask for anew, where its lease cannot grow."""
        self._refused = False
        """Its engine has refused it once: then it is not asked again."""
        self.trace = trace(need.text)

    @property
    def _top(self) -> int:
        return self._elastic.steps[-1]

    def begins_with(self, wish: LeaseWish) -> LeaseWish:
        """The lease to begin with: where its conversation lies, or of that size, else of one that is guessed.

        So a long prompt is not loaded for twice, and one that was carried before need not be again. What a conversation
        may come to is for the daemon to guess: it learns with what a short one starts best.
        """
        if self._least is not None:
            return self._apart(replace(wish, ctx=self._least, least_ctx=self._least))
        if wish.ctx is not None:
            return wish
        saved, lies, near = self._slots.of_conversation(wish.model, self.trace)
        shelved, lay = self._shelf.lies_in(wish.model, self.trace)
        if shelved > saved:
            lies, near = lay, ""  # any instance can read it
        wish = replace(wish, near=near or None)
        if lies and self._elastic.learned_from:
            return self._apart(replace(wish, ctx=lies))
        step = lies or self._enough_for(self._need.guess)
        return self._apart(replace(wish, ctx=step if step > self._elastic.steps[0] else None))

    def _apart(self, wish: LeaseWish) -> LeaseWish:
        """The wish for a lease that is not where others go on, unless its conversation lies there.

        Those that need no more than the first step share its slots, however many they are.
        """
        if wish.near is not None or wish.ctx is None or wish.ctx <= self._elastic.steps[0]:
            return wish
        return replace(wish, apart=tuple(self._slots.lived_in(wish.model, wish.ctx)))

    async def room(self, lease: AsyncLease, call: UpstreamCall) -> AsyncLease:
        """The lease as the request can be sent by it: the same, or grown.

        Where it cannot grow, the request goes with what it has, if its prompt fits. Anew, or another LmxdError, if not.
        """
        need = self._need
        if lease.ctx >= self._top or (need.most is not None and need.most + need.answer <= lease.ctx):
            return lease
        prompt = await self.tokens_of(lease, call)
        if prompt is None or prompt + need.answer <= lease.ctx:
            return lease
        self._require_possible(prompt)
        fits = prompt < lease.ctx
        wait = no_longer(self._wait, FITTING) if fits else self._wait
        try:
            return await self._grown(lease, prompt, self.lies_in(lease), wait)
        except LmxdError as error:
            if fits and error.code in GONE:
                raise Anew(error) from error  # what its engine still takes, it would break off
            if fits:
                return lease
            raise self._anew(error, prompt) from error

    def _anew(self, error: LmxdError, prompt: int) -> LmxdError:
        """Where there is no room beside the old instance, it goes for a new one, once: the prompt is processed anew.

        So it is where the old one is gone by itself.
        """
        if error.code not in _NOT_BESIDE | GONE or self._least is not None:
            return error
        self._least = self._enough_for(prompt)
        return Anew(error)

    def lies_in(self, lease: AsyncLease) -> int | None:
        """The idle slot in which the conversation lies that the request goes on with; None if that is not known."""
        return self._slots.lies_in(lease, self.trace)

    async def again(self, lease: AsyncLease, answer: Exchange, head: Head, slot: int | None) -> AsyncLease | None:
        """The lease, grown, of a request that its engine has refused as too long. None if that is not its answer.

        ``slot``: the one in which its conversation lay when it was sent. Anew, or another LmxdError, if it cannot be
        had.
        """
        short = head.length is not None and head.length <= _MOST_OF_ERROR
        if head.status != _REFUSED or not short or lease.ctx >= self._top or self._refused:
            return None
        self._refused = True
        prompt = _too_long(await answer.kept_body())
        if prompt is None:
            return None
        self._require_possible(prompt)
        try:
            return await self._grown(lease, prompt, slot, self._wait)
        except LmxdError as error:
            raise self._anew(error, prompt) from error

    def _require_possible(self, prompt: int) -> None:
        """LmxdError for a prompt that no growth helps."""
        if prompt >= self._top:
            raise TooLongError(prompt, self._top)

    async def tokens_of(self, lease: AsyncLease, call: UpstreamCall) -> int | None:
        """The tokens of a request's prompt, as its engine counts them; None if it does not."""
        return await self._counting.tokens_of(lease, call)

    def may_meet_wall(self, lease: AsyncLease) -> bool:
        """Whether the answer may fill the context of its instance, though others have more."""
        need = self._need
        fits = need.limit is not None and need.most is not None and need.most + need.limit <= lease.ctx
        return lease.ctx < self._top and not fits

    def is_wall(self, lease: AsyncLease, written: Written) -> bool:
        """Whether an answer ended for nothing but that its context is full."""
        limit = self._need.limit
        return written.ended and written.total >= lease.ctx and (limit is None or written.said < limit)

    def cells(self, lease: AsyncLease) -> Cells | None:
        """The cells of the cache that all slots of a lease's instance share; None where each has its own."""
        return None

    def at_most(self, lease: AsyncLease) -> int:
        """Tokens that it may take of such a cache, as it was sent last."""
        return 0

    def as_sent(self, lease: AsyncLease, call: UpstreamCall) -> UpstreamCall:
        """A call of the request as it is sent by a lease."""
        return call

    async def beyond(self, wall: Wall, told: Callable[[RequestProgress], None], held: AsyncExitStack) -> AsyncLease:
        """The lease, grown, for the rest of an answer that filled its context. LmxdError if it cannot be had.

        ``held``: what lasts as long as the rest.
        """
        lease, written = wall.lease, wall.written
        rest = self._need.answer if self._need.limit is None else self._need.limit - written.said
        wait = no_longer(self._wait, AT_WALL)
        slot = wall.slot if wall.is_continued else None  # a prompt that is carried would be processed otherwise
        return await self._moved(lease, self._step_for(written.total + rest), slot, wait, told)

    async def _grown(self, lease: AsyncLease, prompt: int, slot: int | None, wait: float | None) -> AsyncLease:
        return await self._moved(lease, self._enough_for(prompt), slot, wait, self.told)

    async def _moved(
        self,
        lease: AsyncLease,
        least: int,
        slot: int | None,
        wait: float | None,
        told: Callable[[RequestProgress], None],
    ) -> AsyncLease:
        told(RequestProgress(state="growing", instances=(lease.instance,)))
        grown = await self._leases.grow(lease, least, slot, wait, partial(hear, told))
        self._slots.moved(grown, lease, slot, self.trace)
        return grown

    def _enough_for(self, prompt: int) -> int:
        """The least step for a prompt and its answer."""
        return self._step_for(prompt + self._need.answer)

    def _step_for(self, least: int) -> int:
        """The least step of so many tokens; the last if none has so much."""
        return next((step for step in self._elastic.steps if step >= least), self._top)


def no_longer(wait: float | None, most: float) -> float:
    """Seconds to wait, where those of the request are None or more than ``most``."""
    return most if wait is None else min(wait, most)


def hear(told: Callable[[RequestProgress], None], progress: RequestProgress) -> None:
    told(replace(progress, state="growing"))


def _too_long(body: bytes) -> int | None:
    """The tokens of a prompt that llama-server calls too long; None if it says something else."""
    try:
        said = msgspec.json.decode(body, type=_Refusal).error
    except (ValueError, RecursionError):
        return None
    return said.n_prompt_tokens if said.type == TOO_LONG else None
