"""The settings of a vLLM that decide about its memory, as its flags have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from lmxd.engines.allow_list import is_on, value_of
from lmxd.errors import LmxdError
from lmxd.safetensors.model import HfModel
from lmxd.safetensors.serving import ServedLaunch

_BATCHED: Final = 2048
"""Tokens that are computed at once, unless a flag says it: vLLM's own default for most cards. On a card of 70 GiB and
more it takes 8,192, which needs four times the bytes for hardly more speed."""
_WITH_MEDIA: Final = 8192
_BATCH: Final = "--max-num-batched-tokens"
_CHUNKED: Final = "--enable-chunked-prefill"
_NOT_CHUNKED: Final = "--no-enable-chunked-prefill"
_BLOCK_ON_GPU: Final = 16
_BLOCK_IN_RAM: Final = 128
_LATENT_ON_GPU: Final = 64
_LATENT_IN_RAM: Final = 16
"""Tokens of a block (vllm: config/cache.py, platforms/cpu.py). Of models with latent rows a card may have blocks of 16,
32 or 64: what holds in long ones holds in short ones."""
_KERNEL_ON_GPU: Final = 16
_KERNEL_IN_RAM: Final = 32
"""Tokens that blocks of layers with a window are whole multiples of (get_supported_kernel_block_sizes)."""
_BATCHES_ON_GPU: Final = 2
"""Batches on their way while one is computed: vLLM's asynchronous scheduling."""


def batched(flags: Sequence[str], slots: int, model: HfModel | None, context: int) -> tuple[str, ...]:
    """The words that say the size of a batch, unless ``flags`` have them. It is no less than there are requests.

    Texts that are not taken in chunks have to fit in one, and pictures. ``context``: the tokens of the longest text.
    """
    if value_of(flags, _BATCH) is not None:
        return ()
    least = max(_BATCHED, slots, 0 if is_on(flags, _CHUNKED, usual=True) else context)
    if model is not None:
        least = max(least, model.context if model.reads_whole else 0, _WITH_MEDIA if model.takes_media else 0)
    return (_BATCH, str(least))


def served_launch(
    context: int, sequences: int, kv_tokens: int, flags: Sequence[str], *, ranks: int, latent: bool
) -> ServedLaunch:
    """The launch with these flags on so many GPUs; 0: in RAM. ``latent``: the model keeps one row for all heads.

    LmxdError ``invalid_params`` for a flag whose value is no number, or less than vLLM starts with.
    """
    batch = _number(flags, _BATCH, _BATCHED)
    least = max(sequences, 0 if is_on(flags, _CHUNKED, usual=True) else context)
    if batch < least:
        problem = f"{_BATCH} is {batch}, but {least} have to fit in a batch: one of each request, and whole texts"
        raise LmxdError("invalid_params", problem, f"raise it, or leave it out; without {_NOT_CHUNKED} texts are cut")
    usual = (_LATENT_ON_GPU if latent else _BLOCK_ON_GPU) if ranks else (_LATENT_IN_RAM if latent else _BLOCK_IN_RAM)
    return ServedLaunch(
        context=context,
        sequences=sequences,
        kv_tokens=kv_tokens,
        batched=batch,
        batches=_BATCHES_ON_GPU if ranks else 1,
        dtype=value_of(flags, "--dtype") or "auto",
        kv_dtype=value_of(flags, "--kv-cache-dtype") or "auto",
        quantization=value_of(flags, "--quantization", "-q") or "",
        block=_number(flags, "--block-size", usual),
        kernel=_KERNEL_ON_GPU if ranks else _KERNEL_IN_RAM,
        ranks=max(ranks, 1),
        eager=is_on(flags, "--enforce-eager"),
        wide_states=not ranks,  # where the CPU computes in bfloat16; else they are smaller than what is promised
    )


def _number(flags: Sequence[str], flag: str, usual: int) -> int:
    said = value_of(flags, flag)
    if said is None:
        return usual
    if not said.isascii() or not said.isdecimal() or not 0 < int(said[:12]) < 2**31:
        raise LmxdError("invalid_params", f"{flag} is {said[:32]!r}", "give a whole number from 1 on")
    return int(said)
