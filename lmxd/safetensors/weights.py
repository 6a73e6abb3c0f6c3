"""The bytes of a model's weights as vLLM has them in memory, by the headers of its files.

A tensor of floats is cast to the type that the model is computed in; codes and scales of quantized ones stay as they
are. A vocabulary is padded to 64 rows (vllm: vocab_parallel_embedding.py), a tied output is there once, and what only
drafts or was left behind by training is not loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from lmxd.safetensors.header import StoredTensor

_CAST: Final = frozenset({"F64", "F32", "F16", "BF16"})
_AS_STORED: Final = re.compile(r"(scales?|scale_inv|scale_2|_scale|zeros?|zero_point|_zp|qmap|absmax)$")
"""Names of what belongs to codes: kept in its own type."""
_EMBEDDINGS: Final = re.compile(r"(^|\.)(embed_tokens|wte|word_embeddings|tok_embeddings|embed_in|token_embd)\.weight$")
_OUTPUT: Final = re.compile(r"(^|\.)(lm_head|embed_out)\.weight$")
_LEFT_OUT: Final = re.compile(
    r"(rotary_emb\.(inv_freq|cos_cached|sin_cached)|\.attn\.(bias|masked_bias)|\.attention\.(bias|masked_bias)"
    r"|position_ids)$|^mtp\.|^model\.mtp\."
)
_LAYER: Final = re.compile(r"^(?:model\.|language_model\.|transformer\.)*(?:layers|h|blocks)\.([0-9]{1,6})\.")
_WHOLE: Final = re.compile(r"\.(gate|router|kv_a_proj_with_mqa|kv_a_proj|q_a_proj|wpe|position_embeddings)\.weight$")
"""Matrices that every GPU has whole: those that choose experts, and the narrow ones of MLA."""
_KEYS: Final = re.compile(r"\.(k_proj|v_proj)\.")
_TOGETHER: Final = re.compile(r"\.(qkv_proj|query_key_value|c_attn|Wqkv|wqkv|W_pack|qkv)\.")
_PADDED: Final = 64
"""Rows that a vocabulary is a multiple of."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedAs:
    """The settings that decide what becomes of tensors. ``element``: bytes of what is computed; ``layers``: of the
    model, without those that only draft; ``heads`` of queries and ``kv_heads`` of keys in a layer.
    """

    element: int
    layers: int
    heads: int
    kv_heads: int
    tied: bool
    ranks: int = 1


def loaded(tensors: Iterable[StoredTensor], how: LoadedAs) -> int:
    """The bytes on each of ``ranks`` GPUs, rounded up."""
    total, embeddings, outputs = Fraction(0), 0, 0
    for tensor in _kept(tensors, how):
        size = _size(tensor, how)
        if _OUTPUT.search(tensor.name):
            outputs += 1
        elif _EMBEDDINGS.search(tensor.name):
            embeddings += size
        total += size * _share(tensor, how)
    if embeddings and not outputs and not how.tied:  # the file has one for both, and vLLM two
        total += Fraction(embeddings, how.ranks)
    return -int(-total // 1)


def _kept(tensors: Iterable[StoredTensor], how: LoadedAs) -> Iterator[StoredTensor]:
    for tensor in tensors:
        layer = _LAYER.match(tensor.name)
        drafts = layer is not None and int(layer[1]) >= how.layers
        if not (drafts or _LEFT_OUT.search(tensor.name) or (how.tied and _OUTPUT.search(tensor.name))):
            yield tensor


def _size(tensor: StoredTensor, how: LoadedAs) -> int:
    """Bytes in memory, all ranks together."""
    if tensor.type not in _CAST or _AS_STORED.search(tensor.name):
        return tensor.nbytes
    rows = tensor.shape[0] if tensor.shape else 1
    columns = 1
    for n in tensor.shape[1:]:
        columns *= n
    if len(tensor.shape) == 2 and (_EMBEDDINGS.search(tensor.name) or _OUTPUT.search(tensor.name)):
        rows = -(-rows // _PADDED) * _PADDED
    return rows * columns * how.element


def _share(tensor: StoredTensor, how: LoadedAs) -> Fraction:
    """The part of a tensor that each rank has."""
    if how.ranks == 1 or len(tensor.shape) < 2 or _WHOLE.search(tensor.name):
        return Fraction(1)
    of_keys = Fraction(1, min(how.ranks, how.kv_heads))
    if _KEYS.search(tensor.name):
        return of_keys
    share = Fraction(1, how.ranks)
    if _TOGETHER.search(tensor.name):
        keys = Fraction(2 * how.kv_heads, how.heads + 2 * how.kv_heads)
        return share * (1 - keys) + of_keys * keys
    return share
