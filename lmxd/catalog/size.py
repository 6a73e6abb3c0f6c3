"""The size of a request, and the launch that it leads to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lmxd.config.profile import Profile
from lmxd.core.words import Ask
from lmxd.engines.llama_cpp import ngrams
from lmxd.engines.llama_cpp.load_mode import is_mapped
from lmxd.engines.llama_cpp.repack import repacked_types
from lmxd.errors import LmxdError
from lmxd.gguf.launch import Launch
from lmxd.gguf.overrides import Override, experts_in_ram, feed_forward_in_ram, overrides


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """The settings that a request may choose. None stands for the profile's value.

    ``exact``: context and slots are those of an instance that was admitted, and nothing is rounded up to a step.
    ``bounded``: its holder never uses more tokens than that, so that others may share a cache with it. ``beside``: the
    slots that an instance is to have besides, for those; ``like``: those that it is to have at least.
    """

    ctx: int | None = None
    slots: int | None = None
    cache_type_k: str | None = None
    cache_type_v: str | None = None
    priority: int | None = None
    share: bool = True
    min_gpu_layers: int | None = None
    max_instances: int | None = None
    exact: bool = False
    bounded: bool = False
    beside: int = 0
    like: int = 0

    @classmethod
    def of(cls, ask: Ask) -> Size:
        """The size of an instance for ``ask``."""
        return cls(ctx=ask.context, slots=ask.spread, exact=True)

    def shares(self, share: int) -> int:
        """The slots of a bounded lease in one cache for all, each of which stands for ``share`` tokens."""
        return (self.slots or 1) * -(-(self.ctx or share) // share)


def launch_at(size: Size, profile: Profile, usual_context: Callable[[int | None], int]) -> Launch:
    """The launch of a profile at a size. ``usual_context``: the one by a profile's word, if the size has none.

    LmxdError ``invalid_params`` for a context that none of its instances has.
    """
    context, slots = _context_and_slots(size, profile, usual_context)
    pools = profile.pools
    ubatch = max(profile.ubatch_size, context) if pools else profile.ubatch_size  # such a server takes a text at once
    return Launch(
        context=context,
        slots=slots,
        unified=profile.kv_unified,
        ubatch=ubatch,
        batch=max(profile.batch_size, ubatch) if pools else profile.batch_size,
        cache_type_k=size.cache_type_k or profile.cache_type_k,
        cache_type_v=size.cache_type_v or profile.cache_type_v,
        flash=profile.flash_attention,
        gpu_layers=profile.gpu_layers,
        outputs_all=pools,
        swa_full=profile.swa_full,
        overrides=tuple(_overrides(profile)),
        mmap=is_mapped(("--load-mode", profile.load_mode, *profile.engine_flags)),
        repack=repacked_types() if profile.repack else frozenset(),
        drafted=_drafted(profile),
        lookup=ngrams.TABLES.get(profile.ngram, 0) if profile.ngram is not None else 0,
        mtp=profile.mtp > 0,
    )


def _context_and_slots(size: Size, profile: Profile, usual_context: Callable[[int | None], int]) -> tuple[int, int]:
    if size.exact:
        return size.ctx or usual_context(profile.context_length), size.slots or profile.slots
    if not profile.is_elastic:
        return size.ctx or usual_context(profile.context_length), max(profile.slots, size.slots or 1)
    steps = profile.steps(usual_context(profile.context_length))
    if steps.unified and (size.ctx or 0) > steps.top:
        what = f"ctx is {size.ctx}, but in one cache for all slots (kv_unified) a conversation has {steps.top} at most"
        raise LmxdError("invalid_params", what, "ask for less, or raise context_length")
    if steps.unified:
        own = size.shares(steps.start) if size.bounded else steps.shares(steps.top)
        slots = steps.size(max(own + size.beside, size.like))
        return slots * steps.start, slots
    context = steps.least(size.ctx or 0)
    return context, max(steps.slots_at(context), size.slots or 1)


def _drafted(profile: Profile) -> int:
    if profile.ngram is not None:
        return ngrams.TOKENS[profile.ngram]
    return profile.draft.tokens if profile.draft is not None else profile.mtp


def _overrides(profile: Profile) -> Iterator[Override]:
    for rules in profile.override_tensor:
        yield from overrides(rules)
    if profile.n_cpu_moe:
        yield experts_in_ram(None if profile.n_cpu_moe == "all" else profile.n_cpu_moe)
    if profile.n_cpu_ffn:
        yield feed_forward_in_ram(profile.n_cpu_ffn)
