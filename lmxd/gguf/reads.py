"""The weights that are read for each token of an answer: they decide how fast it is written."""

from __future__ import annotations

from typing import Final, NamedTuple

from lmxd.gguf.launch import Launch
from lmxd.gguf.model import Model, layer_of
from lmxd.gguf.placement import HOST, placed
from lmxd.gguf.weights import INPUTS, mover

_EXPERTS: Final = "_exps."
_EMBEDDINGS: Final = "token_embd.weight"


_CPU_SLOWER: Final = 15
"""A GPU reads its memory about so many times as fast as a CPU reads RAM."""


class Reads(NamedTuple):
    """Bytes that are read for a token: by the GPU, and by the CPU in RAM."""

    on_gpu: int
    in_ram: int

    @property
    def cost(self) -> int:
        """The time that it takes, in bytes that a GPU reads in that time."""
        return self.on_gpu + _CPU_SLOWER * self.in_ram


def reads(model: Model, launch: Launch) -> Reads:
    """The reads of a launch on one GPU. Of experts, those count that a token uses; embeddings are looked up."""
    places = placed(model, launch, 1)
    moved = mover(launch)
    found = {True: 0, False: 0}
    for tensor in model.tensors:
        if tensor.name.startswith(INPUTS) and not (model.tied and tensor.name == _EMBEDDINGS):
            continue
        layer = None if tensor.name.startswith(INPUTS) else layer_of(tensor)
        place = moved(tensor.name, places.of(layer))
        many = tensor.shape[-1] if _EXPERTS in tensor.name and len(tensor.shape) > 2 else 0
        read = tensor.nbytes * model.experts_used // many if many else tensor.nbytes
        found[place == HOST] += read
    return Reads(on_gpu=found[False], in_ram=found[True])
