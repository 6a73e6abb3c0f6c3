"""Requests of elastic models whose slots share one cache: each stays within the tokens that its lease has of it.

Its engine knows nothing of those, and ends all requests at hand where it has no room for one. So the prompt is known
before it is sent, and its answer bounded. A growth is an account: it costs nothing, if the instance has tokens left.

No request has tokens while it waits for more, or two would wait for each other. Where there are none at once it gives
back what it has, and waits for all that it needs. What was said lies where it is, until others need its cells. Only
where its instance has less than it needs it waits a little with what it has, for a larger one to carry it to.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial
from typing import Final

from lmxd.errors import LmxdError
from lmxd.gateway.answers.written import Written
from lmxd.gateway.counting import COUNTED
from lmxd.gateway.growing import AT_WALL, FITTING, GONE, Anew, RequestGrowth, Wall, hear, no_longer
from lmxd.gateway.http.upstream_call import UpstreamCall
from lmxd.gateway.leasing.leases import Leases, LeaseWish
from lmxd.gateway.leasing.progress import RequestProgress
from lmxd.gateway.leasing.slots import Cells
from lmxd.gateway.requests.bound import Bound, bound
from lmxd.gateway.requests.failures import TooLongError
from lmxd.gateway.requests.need import Need
from lmxd.rpc.books import ElasticInfo
from lmxd.rpc.client import AsyncLease

_GENEROUS: Final = 4096
"""Tokens that an answer has which cannot go on behind its bound, and of which nothing is said, if they are free."""
_AT_ONCE: Final = 0.5
"""Seconds in which no larger instance is started: tokens are free in the one that there is, or not."""


class SharedGrowth(RequestGrowth):
    """The tokens of one request in a cache that others share. ``goes_on``: its answer can go on behind a bound."""

    def __init__(
        self,
        leases: Leases,
        elastic: ElasticInfo,
        need: Need,
        wait: float | None,
        told: Callable[[RequestProgress], None],
        met_wall: Callable[[str], None],
        *,
        goes_on: bool,
    ) -> None:
        super().__init__(leases, elastic, need, wait, told, met_wall)
        self._answers = need.answers or 1
        self._goes_on = goes_on
        self._is_known = True
        """False once its engine has not counted its prompt: then it has to have an instance for itself."""
        self._prompt: int | None = None
        """Tokens of the prompt that is sent next, or more."""
        self._wish: LeaseWish | None = None
        self._bound: Bound | None = None
        """That of the answer that was asked for last."""
        self._lay = False
        """Its conversation lay somewhere when it came."""

    def begins_with(self, wish: LeaseWish) -> LeaseWish:
        """A lease of as many tokens as are guessed, or known by now, where the conversation lies.

        Where that has less, it is one that is enough to have the conversation carried from there. One that lies nowhere
        is kept apart from those that go on, and would be processed anew for it.
        """
        if not self._is_known:
            return wish
        saved, kept, near = self._gains(wish.model)
        self._lay = bool(saved or kept)
        self._slots.touch(wish.model, near, self.trace)
        if kept > saved:
            near = ""  # any instance can read it
        least, share = self._least or self._enough_for(self._need.guess), self._elastic.steps[0]
        apart = () if saved or kept else tuple(self._slots.crowded(wish.model, least, share))
        if near and least > share * self._slots.count(wish.model, near):
            near, least = ("", least) if self._least else (near, share)
        self._wish = replace(wish, near=near or None, apart=apart, ctx=least, least_ctx=least, bounded=True)
        return self._wish

    def cells(self, lease: AsyncLease) -> Cells | None:
        takes = lease.ctx if self._prompt is None else self._prompt + self._answers * self._need.answer
        return Cells(lease.instance_slots * self._elastic.steps[0], min(takes, lease.ctx))

    async def room(self, lease: AsyncLease, call: UpstreamCall) -> AsyncLease:
        """The lease as the request can be sent by it: the same, or grown. Anew for one of another size."""
        if not self._is_known:
            return lease
        prompt = self._prompt = await self._counted(lease, call)
        if prompt is None:
            self._is_known = False
            raise Anew(
                LmxdError("invalid_request", "its engine does not count the prompt", "ask for an instance alone")
            )
        if self._top - prompt < self._answers:
            raise TooLongError(prompt, self._top)
        enough = self._enough_for(prompt)
        more = enough if self._goes_on or self._need.limit is not None else self._with(prompt, _GENEROUS)
        if more > max(enough, lease.ctx):
            with suppress(LmxdError):
                return await self._widened(lease, more, self.lies_in(lease), self.told, deadline=_AT_ONCE)
        if self._has_lost(lease):
            with suppress(LmxdError):
                lease = await self._leases.widen(lease, enough, None, partial(hear, self.told), apart=True)
        if enough <= lease.ctx:
            return lease
        try:
            return await self._widened(lease, enough, self.lies_in(lease), self.told)
        except LmxdError as error:
            refused = error
        if refused.code not in GONE and self._goes_on and prompt < lease.ctx:
            return lease  # what its answer may need more, it is given when it does
        self._least = enough
        raise Anew(refused) from refused

    def _has_lost(self, lease: AsyncLease) -> bool:
        """Whether others took the cells of its conversation while it waited: so they lack for all that go on.

        It is processed anew wherever it is, so that it is the one to go where there are more.
        """
        return self._lay and self._gains(lease.model)[:2] == (0, 0)

    def _gains(self, model: str) -> tuple[int, int, str]:
        """Blocks that are gained where its conversation lies, in a slot and in a file, and the instance of the slot."""
        saved, _, near = self._slots.of_conversation(model, self.trace)
        return saved, self._shelf.lies_in(model, self.trace)[0], near

    async def _counted(self, lease: AsyncLease, call: UpstreamCall) -> int | None:
        """Tokens of its prompt, or more where that is enough to know. None if nobody can tell well enough.

        A chat is counted, for its template may have more words of its own than anybody would guess.
        """
        if self._prompt is not None:
            return self._prompt
        most = self._need.most
        ends = self._need.limit is not None or (self._goes_on and lease.ctx < self._top)
        with_answers = None if most is None else most + self._answers * self._need.answer
        plain = call.path.partition("?")[0] not in COUNTED
        if plain and with_answers is not None and ends and with_answers <= lease.ctx:
            return most  # no answer is cut for it
        found = await self.tokens_of(lease, call)
        if found is None and with_answers is not None and with_answers <= self._top:
            return most
        return found

    def as_sent(self, lease: AsyncLease, call: UpstreamCall) -> UpstreamCall:
        """A call whose answers are over when its lease has no more tokens."""
        if self._prompt is None:
            return call
        self._bound = bound(call, max(1, (lease.ctx - self._prompt) // self._answers))
        return self._bound.call

    def at_most(self, lease: AsyncLease) -> int:
        if self._prompt is None or self._bound is None:
            return lease.ctx
        limit, most = self._bound.limit, self._bound.most
        return self._prompt + self._answers * (most if limit is None else min(limit, most))

    def may_meet_wall(self, lease: AsyncLease) -> bool:
        return self._bound is not None and self._bound.cuts and self._answers == 1 and lease.ctx < self._top

    def is_wall(self, lease: AsyncLease, written: Written) -> bool:
        """Whether an answer ended for nothing but its bound."""
        return written.ended and self._bound is not None and self._bound.cuts and written.said >= self._bound.most

    async def beyond(self, wall: Wall, told: Callable[[RequestProgress], None], held: AsyncExitStack) -> AsyncLease:
        """The lease, grown where it is, or another for all of it, which may wait. LmxdError if neither can be had."""
        assert self._bound is not None
        assert self._wish is not None
        lease, limit = wall.lease, self._bound.limit
        rest = self._need.answer if limit is None else limit - wall.written.said
        least = self._step_for(wall.written.total + rest)
        if wall.is_continued:
            self._prompt = wall.written.total
        if least <= lease.ctx:
            return lease  # its prompt was taken for longer than it is
        try:
            return await self._widened(lease, least, wall.slot if wall.is_continued else None, told)
        except LmxdError:
            told(RequestProgress(state="growing", instances=(lease.instance,)))
            self._leases.give_up(lease)
            wait = no_longer(self._wait, AT_WALL)
            wish = replace(self._wish, near=lease.instance, apart=(), ctx=least, least_ctx=least, wait=wait)
            return await held.enter_async_context(self._leases.lease(wish, partial(hear, told)))

    async def _widened(
        self,
        lease: AsyncLease,
        least: int,
        slot: int | None,
        told: Callable[[RequestProgress], None],
        deadline: float | None = None,
    ) -> AsyncLease:
        """The lease with so many tokens: where it is, or where its conversation is carried to. LmxdError.

        ``slot``: the one that the conversation lies in. Without one, there is nothing to wait for with what it has.
        ``deadline``: seconds within which it is to have them, or not at all.
        """
        is_enough = least <= lease.instance_slots * self._elastic.steps[0]
        wait = 0.0 if slot is None or is_enough or deadline else no_longer(self._wait, FITTING)
        if wait:
            told(RequestProgress(state="growing", instances=(lease.instance,)))
        grown = await self._leases.widen(lease, least, slot, partial(hear, told), wait=wait, deadline=deadline)
        if grown.instance != lease.instance:
            self._slots.moved(grown, lease, slot, self.trace)
        return grown

    def _enough_for(self, prompt: int) -> int:
        return self._with(prompt, self._need.answer)

    def _with(self, prompt: int, answer: int) -> int:
        """The least context for a prompt and its answers, each of which needs a slot."""
        return self._step_for(max(prompt + self._answers * answer, self._answers * self._elastic.steps[0]))
