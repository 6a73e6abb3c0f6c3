"""The keys of an elastic context: a lease starts with a small one, and moves to larger ones as it needs them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Final, Literal, Protocol

from pydantic import Field

from lmxd.config.section import Section
from lmxd.config.values import IdleSeconds
from lmxd.gguf.launch import padded

_START: Final = 4096
"""Tokens of the first step where nobody says how many."""
_FACTOR: Final = 4
"""Each step is so many times the one before where nobody says which there are."""
_SHIFTS: Final = "--context-shift"
_EXCLUDED: Final = {
    "suspend": "its caches are kept for launches of one size",
    "embedding": "its server keeps no conversation",
    "rerank": "its server keeps no conversation",
}
"""Keys that an elastic context excludes, and why."""
_UNCOUNTED: Final = ("mmproj", "draft", "mtp", "ngram")
"""Keys by which an engine takes more of a cache than the tokens of a prompt and its answer."""
_MOST_SHARES: Final = 256
"""Sequences that one cache of llama.cpp can have (LLAMA_MAX_SEQ)."""

_Step = Annotated[int, Field(ge=256, le=2**27)]


class ElasticConfig(Section):
    """The steps of an elastic context, in tokens of a slot, and when an idle instance goes back to a smaller one."""

    start: _Step | None = Field(None, description="the context that a lease begins with; 4096 by default")
    steps: tuple[_Step, ...] = Field(
        (),
        max_length=8,
        description="those that it can have later, ascending, up to context_length; by default each four times the one"
        " before. With kv_unified, a conversation has any multiple of start, and these are the tokens of one cache for"
        " all, after the first, which has slots times start; by default each twice the one before",
    )
    idle_shrink: IdleSeconds = Field(
        120,
        description="seconds without work after which an instance gives back the context that its conversations do not"
        " use; never is possible",
    )


class ElasticKeys(Section):
    """The keys that make a context elastic."""

    context: Literal["fixed", "elastic"] | None = Field(
        None, description="elastic: a lease starts with a small context, and has a larger one when it needs it"
    )
    elastic: ElasticConfig | None = Field(
        None, description="the steps of an elastic context; saying them makes it elastic"
    )

    @property
    def is_elastic(self) -> bool:
        """Whether its leases start small, and grow."""
        return self.context == "elastic" or self.elastic is not None

    @property
    def idle_shrink(self) -> float:
        """Seconds without work after which an instance gives back what its conversation does not use."""
        return (self.elastic or ElasticConfig()).idle_shrink


class Grows(Protocol):
    """A profile, as far as these keys depend on its others."""

    @property
    def context(self) -> str | None: ...
    @property
    def elastic(self) -> ElasticConfig | None: ...
    @property
    def is_elastic(self) -> bool: ...
    @property
    def context_length(self) -> int | None: ...
    @property
    def engine_flags(self) -> tuple[str, ...]: ...
    @property
    def kv_unified(self) -> bool: ...
    @property
    def slots(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Steps:
    """The contexts that a lease can have, ascending, and the ``slots`` of an instance of the first.

    Each is a multiple of 256, to which llama.cpp rounds up, but for the last, which is what the profile says.
    ``sizes``: of instances whose slots share one cache, each of which is as large as the first step; ascending. The
    contexts are then multiples of that. None where slots have a context of their own.
    """

    contexts: tuple[int, ...]
    slots: int
    sizes: tuple[int, ...] = ()

    @property
    def unified(self) -> bool:
        """Whether all slots of an instance share one cache."""
        return bool(self.sizes)

    @property
    def start(self) -> int:
        return self.contexts[0]

    @property
    def top(self) -> int:
        return self.contexts[-1]

    def least(self, tokens: int) -> int:
        """The least step of so many tokens; what is beyond the last is no step, and stays as it is."""
        return next((step for step in self.contexts if step >= tokens), tokens)

    def slots_at(self, step: int) -> int:
        """The slots of an instance of a step. It has no more cells than one of the first, but for one slot at least."""
        return max(1, self.slots * self.start // step)

    def shares(self, tokens: int) -> int:
        """The slots of one cache for all that have so many tokens together."""
        return -(-tokens // self.start)

    def enough(self, used: Sequence[int]) -> int:
        """The slots of the smallest cache for all that has what conversations use and more, and a slot for each."""
        return self.size(max(self.shares(with_more(sum(used))), sum(tokens > 0 for tokens in used)))

    def size(self, slots: int) -> int:
        """The slots of the smallest instance that has so many; of the largest if none has."""
        return next((size for size in self.sizes if size >= slots), self.sizes[-1])


def with_more(used: int) -> int:
    """Tokens for a conversation that uses so many, so that it need not grow soon: a quarter more."""
    return -(-5 * used // 4)


def steps(said: ElasticConfig | None, top: int, slots: int, *, unified: bool) -> Steps:
    """The steps up to ``top``. ``said``: by the profile; ``slots``: of an instance of the first.

    ``unified``: they share one cache.
    """
    said = said or ElasticConfig()
    first = padded(said.start or _START)
    if unified:
        return Steps((*range(first, top, first), top), slots, tuple(_sizes(said.steps, first, top, slots)))
    further = [padded(step) for step in said.steps] or list(_quadrupled(first, top))
    return Steps((*dict.fromkeys(step for step in (first, *further) if step < top), top), slots)


def _sizes(said: Sequence[int], share: int, top: int, slots: int) -> Iterator[int]:
    """The slots of instances with one cache for all: the first has ``slots``, and each twice as many as the one before.

    One of them has the whole context, and the last that of each slot, as far as an engine can have so many. Or they are
    as said, and the whole context.
    """
    whole = -(-top // share)
    if said:
        yield from sorted({slots, max(slots, whole), *(max(slots, -(-step // share)) for step in said)})
        return
    size, most = slots, max(slots, whole, min(slots * whole, _MOST_SHARES))
    while size < most:
        yield size
        size = whole if size < whole < 2 * size else 2 * size
    yield most


def _quadrupled(first: int, top: int) -> Iterator[int]:
    step = first * _FACTOR
    while step < top:
        yield step
        step *= _FACTOR


def wrong_elastic(profile: Grows) -> Iterator[str]:
    """A sentence for each key that an elastic context cannot have, or excludes."""
    if not profile.is_elastic:
        return
    if profile.context == "fixed":
        yield "context: it is fixed, but elastic says steps: take one of them out"
    for key, why in _EXCLUDED.items():
        if getattr(profile, key):
            yield f"{key}: an elastic context excludes it, for {why}: take one of them out"
    if profile.kv_unified:
        yield from _wrong_shares(profile)
    if _SHIFTS in profile.engine_flags:
        why = "an elastic context grows instead of losing the beginning of a conversation"
        yield f"engine_flags: {_SHIFTS} is excluded, for {why}: take one of them out"
    yield from _wrong_steps(profile.elastic or ElasticConfig(), profile.context_length, unified=profile.kv_unified)


def _wrong_shares(profile: Grows) -> Iterator[str]:
    """The same where all slots share one cache."""
    for key in _UNCOUNTED:
        if getattr(profile, key):
            why = "what it takes of the one cache that all slots share is not known"
            yield f"{key}: an elastic context with kv_unified excludes it, for {why}: take one of them out"
    said, top = profile.elastic or ElasticConfig(), profile.context_length
    first = padded(said.start or _START)
    if beyond := [step for step in said.steps if step > _MOST_SHARES * first]:
        most = f"{_MOST_SHARES} times start ({_MOST_SHARES * first})"
        yield f"elastic.steps has {beyond[0]}, but with kv_unified {most} is the most: lower it, or raise start"
    if below := [step for step in said.steps if step < profile.slots * first]:
        why = f"the first cache has slots times start ({profile.slots * first}), and the others are larger"
        yield f"elastic.steps has {below[0]}, but with kv_unified {why}: raise it, or lower slots"
    if top and (times := -(-top // first)) > _MOST_SHARES:
        yield (
            f"elastic.start is {first}, which context_length ({top}) has {times} times, and with kv_unified"
            f" {_MOST_SHARES} at most are possible: raise start to {padded(-(-top // _MOST_SHARES))}"
        )


def _wrong_steps(said: ElasticConfig, top: int | None, *, unified: bool) -> Iterator[str]:
    """``top``: 0 for that of the model's file, which is not read here. ``unified``: they are of one cache for all."""
    if top is None:
        how = "say how many tokens, or 0 for as many as the model was trained for"
        yield f"context_length: an elastic context grows up to it, and it is not given: {how}"
        return
    first = said.start or _START
    if top and padded(first) >= top:
        start = f"{first}" if said.start else f"{first} by default"
        start += "" if padded(first) == first else f" (which llama-server rounds up to {padded(first)})"
        yield f"elastic.start is {start}, and context_length {top}: nothing could grow: lower start, or raise that"
        return
    yield from _wrong_order(first, said.steps)
    if top and not unified and (beyond := [step for step in said.steps if step > top]):
        yield (
            f"elastic.steps has {beyond[0]}, but context_length is {top}, beyond which nothing grows: take it out, or"
            " raise context_length"
        )


def _wrong_order(start: int, said: Sequence[int]) -> Iterator[str]:
    for n, (before, step) in enumerate(pairwise((start, *said))):
        if step <= before:
            where = "the one before" if n else "start"
            yield f"elastic.steps has {step}, which is not more than {where} ({before}): give them ascending"
            return
