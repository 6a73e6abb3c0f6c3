"""Answers of elastic models go on where their context is full: their lease grows, and the larger instance goes on.

A wall is told by two things: the engine ended the answer for its length, and its tokens are all that the context has.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Final, Literal, TypeAlias

from lmxd.errors import LmxdError
from lmxd.gateway.answers.continuation import anew, continuation, goes_on, is_chat, is_repeatable
from lmxd.gateway.answers.events import collected
from lmxd.gateway.answers.seams import Differs, Seam
from lmxd.gateway.answers.walls import Remainder, WalledAnswer
from lmxd.gateway.answers.written import Written
from lmxd.gateway.growing import RequestGrowth, Wall
from lmxd.gateway.http.http1 import Head
from lmxd.gateway.http.relayed_answer import RelayedAnswer
from lmxd.gateway.http.upstream import Exchange
from lmxd.gateway.http.upstream_call import UpstreamCall
from lmxd.gateway.leasing.progress import RequestProgress
from lmxd.rpc.client import AsyncLease

_FOUND: Final = 200
_MOST: Final = 16 * 2**20
"""Bytes of a whole answer that is looked at: a longer one is passed on as it comes."""
How: TypeAlias = Literal["continued", "again", "ended"]
AskInstance: TypeAlias = Callable[
    [AsyncLease, UpstreamCall, int | None], AbstractAsyncContextManager[tuple[RelayedAnswer, Head]]
]
"""Asks an instance, whose answer lasts as long as the block: in a slot that is taken already, if one is said."""

Beyond: TypeAlias = Callable[[Exchange, Head], AbstractAsyncContextManager[tuple[RelayedAnswer, Head]]]
"""Makes of an instance's answer the one that its client is to have, as long as the block lasts."""


class RequestWall:
    """The wall of one answer: of an instance with a context that is not the last.

    ``slot``: the one that the answer is written in, if that is known.
    """

    def __init__(
        self, growth: RequestGrowth, lease: AsyncLease, call: UpstreamCall, slot: int | None, ask: AskInstance
    ) -> None:
        self._growth = growth
        self._lease = lease
        self._call = call
        self._slot = slot
        self._ask = ask
        self._how: How | None = None
        self._seam: Seam | None = None

    @contextlib.asynccontextmanager
    async def beyond(self, answer: Exchange, head: Head) -> AsyncIterator[tuple[RelayedAnswer, Head]]:
        """The answer as its client is to have it, with what an instance beyond the wall says."""
        async with AsyncExitStack() as self._stack:
            try:
                if head.status == _FOUND and head.is_events and head.chunked and goes_on(self._call):
                    yield WalledAnswer(answer, self._streamed), head
                elif head.status == _FOUND and head.is_json and head.length is not None and head.length <= _MOST:
                    yield answer, await self._whole(answer, head)
                else:
                    yield answer, head
            finally:
                if self._how is not None:
                    failed = self._seam is not None and self._seam.failed
                    self._growth.met_wall("ended" if failed else self._how)

    async def _streamed(self, written: Written, told: Callable[[RequestProgress], None]) -> Remainder | None:
        """The rest of a stream."""
        found = await self._rest(written, told, whole=False)
        if found is None or self._seam is None:
            return None
        answer, head = found
        return Remainder(answer, self._seam) if head.is_events and head.chunked else None

    async def _whole(self, answer: Exchange, head: Head) -> Head:
        """The head of a whole answer, which is read, and put together with its rest."""
        written = Written()
        written.take(await answer.kept_body())
        if (found := await self._rest(written, self._growth.told, whole=True)) is None:
            return head
        try:
            body = await collected(*found)
            return answer.put(body if self._seam is None else self._seam.whole(body))
        except (LmxdError, Differs):
            self._how = "ended"
            return head

    async def _rest(
        self, written: Written, told: Callable[[RequestProgress], None], *, whole: bool
    ) -> tuple[RelayedAnswer, Head] | None:
        """The answer of an instance with more context; None if this is no wall, or the end all the same."""
        if not self._growth.is_wall(self._lease, written):
            return None
        self._how = "ended"
        try:
            call, how = await self._asked(written, whole=whole)
            if call is None:
                return None
            wall = Wall(lease=self._lease, written=written, slot=self._slot, is_continued=how == "continued")
            lease = await self._growth.beyond(wall, told, self._stack)
            slot = self._slot if lease.instance == self._lease.instance else None
            if how == "again" and lease.instance == self._lease.instance:
                call = anew(call)
            answer, head = await self._stack.enter_async_context(self._ask(lease, call, slot))
        except LmxdError:
            return None
        if head.status != _FOUND:
            return None
        self._how = how
        return answer, head

    async def _asked(self, written: Written, *, whole: bool) -> tuple[UpstreamCall | None, How]:
        """The request to send: to go on, if its engine reads the very tokens in it, else the same again, if it may be.

        A stream goes on with that behind what its client has of it.
        """
        more = continuation(self._call, written)
        if more is not None and await self._growth.tokens_of(self._lease, more) == written.total:
            self._seam = Seam(written, repeats=is_chat(self._call))
            return more, "continued"
        if whole:
            return self._call, "again"
        if written.plain and is_repeatable(self._call):
            self._seam = Seam(written, repeats=True, anew=True)
            return self._call, "again"
        return None, "ended"
