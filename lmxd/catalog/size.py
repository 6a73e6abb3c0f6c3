"""The size of a request, and the launch that it leads to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lmxd.config.profile import Profile
from lmxd.engines.llama_cpp import flags
from lmxd.gguf.launch import Launch


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """The settings that a request may choose. None stands for the profile's value."""

    ctx: int | None = None
    slots: int | None = None
    cache_type_k: str | None = None
    cache_type_v: str | None = None
    priority: int | None = None
    share: bool = True
    cpu_spill: bool | None = None
    max_instances: int | None = None


def launch_at(size: Size, profile: Profile, usual_context: Callable[[int | None], int]) -> Launch:
    """The launch of a profile at a size. ``usual_context``: the one by a profile's word, if the size has none."""
    context, pools = size.ctx or usual_context(profile.context_length), flags.computes_all_outputs(profile.engine_flags)
    ubatch = max(profile.ubatch_size, context) if pools else profile.ubatch_size  # such a server takes a text at once
    return Launch(
        context=context,
        slots=max(profile.slots, size.slots or 1),
        ubatch=ubatch,
        batch=max(profile.batch_size, ubatch) if pools else profile.batch_size,
        cache_type_k=size.cache_type_k or profile.cache_type_k,
        cache_type_v=size.cache_type_v or profile.cache_type_v,
        flash=profile.flash_attention,
        gpu_layers=profile.gpu_layers,
        outputs_all=pools,
    )
