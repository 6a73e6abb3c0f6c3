"""The pool of blocks that vLLM divides its KV cache into: bytes of a block, blocks of a request, tokens of a pool.

As vLLM 0.24 to 0.32 group layers (v1/core/kv_cache_utils.py: get_kv_cache_groups, get_kv_cache_capacity). Layers that
see the same share their blocks. Where some see less, layers form groups of equal size, every group takes blocks of its
own from one pool, and pages of different sizes become one size: by longer blocks, or by padding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from lmxd.safetensors.documents import Uncovered
from lmxd.safetensors.layers import KeptLayer, Sees
from lmxd.safetensors.states import KeptState

NULL_BLOCKS = 1
"""Blocks that vLLM holds back for what has left a window (BlockPool.null_block)."""


@dataclass(frozen=True, slots=True)
class Page:
    """The part of a block that is of one layer: rows of ``tokens``, or a state, in ``size`` bytes with their padding.

    ``reach``: as of the layer; of a state the blocks that a request has of it.
    """

    tokens: int
    size: int
    sees: Sees
    reach: int
    latent: bool

    def blocks(self, context: int, in_flight: int) -> int:
        """The most blocks that a request of ``context`` tokens has while ``in_flight`` tokens are computed."""
        match self.sees:
            case Sees.WINDOW:  # which may begin in the middle of a block
                return _ceil(min(self.reach - 1 + in_flight, context), self.tokens) + 1
            case Sees.CHUNK:
                return _ceil(min(self.reach + in_flight, context), self.tokens)
            case Sees.STATE:
                return self.reach
        return _ceil(context, self.tokens)


@dataclass(frozen=True, slots=True)
class BlockPool:
    """Blocks of ``size`` bytes, and one page of each group of layers that takes blocks; none of an encoder."""

    size: int
    groups: tuple[Page, ...]

    def blocks(self, context: int, in_flight: int) -> int:
        """The blocks that one request of so many tokens has at most."""
        return sum(page.blocks(context, in_flight) for page in self.groups)

    def tokens(self, blocks: int, context: int, in_flight: int) -> int:
        """The tokens that vLLM says so many blocks hold ("KV cache size"), counted in requests of ``context``.

        The arithmetic of floats is vLLM's, so that both round alike.
        """
        if not self.groups:
            return 0
        return int(blocks / self.blocks(context, in_flight) * context)

    def blocks_for(self, tokens: int, context: int, in_flight: int) -> int:
        """The fewest blocks that hold ``tokens`` beside the null block, and one request of ``context`` at least."""
        if not self.groups:
            return 0
        request = self.blocks(context, in_flight)
        needed = -(-Fraction(tokens * request, context) // 1)
        return max(int(needed), request) + NULL_BLOCKS


@dataclass(frozen=True, kw_only=True, slots=True)
class Blocks:
    """The sort of blocks: elements of ``element`` bytes in blocks of ``tokens``, on each of ``ranks`` GPUs.

    Layers with a window have blocks of whole ``kernel`` tokens, as the kernels take them. ``wide``: recurrences are in
    float32 whatever is computed in.
    """

    ranks: int = 1
    element: int = 2
    tokens: int = 16
    kernel: int = 16
    wide: bool = False


def pool_of(layers: Sequence[KeptLayer], how: Blocks, states: Sequence[KeptState] = (), computed: int = 2) -> BlockPool:
    """The pool of one GPU. ``computed``: bytes of an element of a state, which a type of the cache does not change."""
    sizes = [state.size(how.ranks, computed, wide=how.wide) for state in states]
    tokens = _beside(layers, how, max(sizes)) if layers and sizes else how.tokens
    windowed = max(how.kernel, tokens // how.kernel * how.kernel)
    pages = [
        _page(layer, layer.elements(how.ranks) * how.element, windowed if layer.sees is Sees.WINDOW else tokens)
        for layer in layers
    ]
    pages += [Page(tokens, size, Sees.STATE, it.blocks, False) for it, size in zip(states, sizes, strict=True)]
    if not pages:
        return BlockPool(0, ())
    if len({(page.sees, page.reach) for page in pages}) == 1:
        return BlockPool(sum(page.size for page in pages), (pages[0],))
    alike = Counter(_unified(pages))
    groups = tuple(page for page, count in alike.items() for _ in range(_ceil(count, _group_size(alike))))
    widest = max(_ceil(count, _ceil(count, _group_size(alike))) for count in alike.values())
    return BlockPool(widest * groups[0].size, groups)


def _beside(layers: Sequence[KeptLayer], how: Blocks, state: int) -> int:
    """Tokens of a block beside states: as many times the usual as make it no smaller than a state."""
    row = layers[0].elements(how.ranks) * how.element
    usual = max(how.kernel, how.tokens)
    return max(how.tokens, usual * _ceil(state, usual * row))


def _page(layer: KeptLayer, row: int, tokens: int) -> Page:
    return Page(tokens, tokens * row, layer.sees, layer.reach, layer.latent)


def _group_size(alike: Counter[Page]) -> int:
    """Layers of a group: the fewest of one sort, or the most where they are nearly as many."""
    fewest, most = min(alike.values()), max(alike.values())
    return most if most < fewest * 1.5 else fewest


def _unified(pages: list[Page]) -> list[Page]:
    """Pages of one size: longer blocks where that comes out even, else padding."""
    size = max(page.size for page in pages)
    return [_sized(page, size) for page in pages]


def _sized(page: Page, size: int) -> Page:
    if page.size == size:
        return page
    if size % page.size == 0 and page.sees is not Sees.STATE:
        return replace(page, tokens=page.tokens * (size // page.size), size=size)
    if page.latent:
        raise Uncovered("layers with one latent row beside others of another size are not covered")
    return replace(page, size=size)


def _ceil(number: int, by: int) -> int:
    return -(-number // by)
