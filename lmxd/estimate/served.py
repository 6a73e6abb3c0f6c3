"""The bytes of a vLLM by place and part: the closed form of lmxd/safetensors, and what its processes take beside.

What is beside weights and cache is a prior until it was seen: then it is what was seen (``Rests``).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lmxd.errors import LmxdError
from lmxd.estimate import contexts
from lmxd.estimate.directories import directory_version, read_directory
from lmxd.estimate.footprints import CLOSED_FORM, Estimate
from lmxd.estimate.learned import Card
from lmxd.estimate.overhead import MIB
from lmxd.estimate.rests import NO_RESTS, KnownRests
from lmxd.gguf.footprint import Footprint, Parts
from lmxd.safetensors.documents import DirectoryError, Uncovered
from lmxd.safetensors.model import HfModel
from lmxd.safetensors.serving import ServedLaunch, ServedMemory, memory

_SERVER: Final = 512 * MIB
_CORE: Final = 480 * MIB
_TRACKER: Final = 8 * MIB
_WORKER: Final = 560 * MIB
_COMPILED: Final = 48 * MIB
"""PSS in RAM of the API server, EngineCore, resource tracker and, beside weights and cache, each Worker; and of a
Worker that compiles. Measured with vLLM 0.32.0 on two cores: 455 to 473, 419 to 435, 5, 460 to 511 and 541 MiB
(docs/vllm.md). A tenth more is promised, for a promise that is exceeded changes."""
_CUDA_WORKER: Final = 1_400 * MIB
"""RAM of a Worker beside a GPU: CUDA's and PyTorch's libraries. Not measured."""
_TORCH: Final = 256 * MIB
"""On a GPU beside the context: cuBLAS's workspace, PyTorch's pieces. With the graphs it was right to 1.3 % of all that
vLLM 0.24.0 took of an H100 for Llama 3.1 8B (docs/vllm.md); each part was not measured."""
_TOGETHER: Final = 976 * MIB
"""More on each of several GPUs: NCCL's channels, and the buffers of all-reduces. Measured on two H100: 945 to 973 MiB
beside the prior of one."""
_GRAPHS_A_LAYER: Final = 16 * MIB
"""CUDA graphs of a layer, by public logs of 8B models (0.5 GiB for 32 layers at the usual sizes)."""
_STATES_SINCE: Final = (0, 32)
"""The version from which on states are kept as they were compared: earlier ones had other ways (mamba_cache_mode)."""
_VERSION: Final = re.compile(r"([0-9]{1,6})\.([0-9]{1,6})", re.ASCII)
_ERROR_IN_RAM: Final = 128 * MIB
_ERROR_ON_GPU: Final = 768 * MIB
_ERROR_LEARNED: Final = 64 * MIB


def estimate_served(
    path: Path, launch: ServedLaunch, cards: Sequence[Card] = (), rests: KnownRests = NO_RESTS, version: str = ""
) -> Estimate:
    """The bytes that vLLM takes for a directory on each of ``cards``; without any: in RAM. ``version``: of vLLM.

    LmxdError: as for ``read_directory``, and ``invalid_params`` for a launch that vLLM refuses.
    """
    model = read_directory(path)
    try:
        if model.states and _parts_of(version) < _STATES_SINCE:
            raise Uncovered(f"how vLLM {version} keeps states beside attention was not compared")
        found = memory(model, launch)
    except Uncovered as error:
        about = {"uncovered": error.problem}
        raise LmxdError("bad_model_file", f"{path}: {error.problem}", error.remedy, about) from error
    except DirectoryError as error:
        raise LmxdError("invalid_params", error.problem, error.remedy) from error
    key = rest_key(path, launch, cards[0] if cards else None, version)
    return (
        _in_ram(found, launch, rests.get(key))
        if not cards
        else _on_cards(found, launch, cards, model.layers, rests.get(key))
    )


def _parts_of(version: str) -> tuple[int, ...]:
    """The numbers of a version; those of the one that was compared where it is not known."""
    found = _VERSION.match(version)
    return tuple(map(int, found.groups())) if found else _STATES_SINCE


def rest_key(path: Path, launch: ServedLaunch, card: Card | None, version: str) -> str:
    """The key of what launches take beside weights and cache, which do not change it. LmxdError as for reading."""
    told = [directory_version(path), launch.batched, launch.sequences, launch.eager, launch.ranks, launch.dtype]
    on = None if card is None else (card.name, card.driver, card.multiprocessors)
    return hashlib.sha256(json.dumps([told, on, version]).encode()).hexdigest()[:32]


def _in_ram(found: ServedMemory, launch: ServedLaunch, learned: int | None) -> Estimate:
    """All processes are in RAM."""
    beside = _SERVER + _CORE + _TRACKER + launch.ranks * (_WORKER + (0 if launch.eager else _COMPILED))
    parts = _parts(found, beside, learned)
    error = (_ERROR_IN_RAM if learned is None else _ERROR_LEARNED) + found.doubt
    return Estimate(
        basis=CLOSED_FORM, parts=Footprint(devices=(), host=parts), error=error, notes=_notes(found, learned)
    )


def _on_cards(
    found: ServedMemory, launch: ServedLaunch, cards: Sequence[Card], layers: int, learned: int | None
) -> Estimate:
    """Equal shares on all cards, and the processes in RAM."""
    known = tuple(contexts.prior(card) for card in cards)
    graphs = 0 if launch.eager else layers * _GRAPHS_A_LAYER
    beside = _TORCH + graphs + (_TOGETHER if launch.ranks > 1 else 0)
    devices = tuple(_parts(found, context.size + beside, learned) for context in known)
    host = Parts(overhead=_SERVER + _CORE + _TRACKER + launch.ranks * _CUDA_WORKER)
    error = (_ERROR_ON_GPU + max(context.error for context in known)) if learned is None else _ERROR_LEARNED
    return Estimate(
        basis=CLOSED_FORM,
        parts=Footprint(devices=devices, host=host),
        error=error + found.doubt,
        contexts=known if learned is None else (),
        notes=_notes(found, learned),
    )


def _parts(found: ServedMemory, beside: int, learned: int | None) -> Parts:
    """The parts in one place; what was learned stands for what is computed and what is beside together."""
    work = found.work if learned is None else min(found.work, learned)
    beside = beside if learned is None else learned - work
    return Parts(weights=found.weights, kv=found.kv, compute=work, overhead=beside)


def _notes(found: ServedMemory, learned: int | None) -> tuple[str, ...]:
    notes = [f"vLLM is told --kv-cache-memory-bytes {found.kv} and will say that its cache has {found.shown:,} tokens"]
    if learned is None:
        notes.append("what it takes beside weights and cache is a prior: it is learned from the first start")
    if found.doubt:
        notes.append("quantized weights may take more than their files, by kernels' padding: see plus or minus")
    return tuple(notes)


def inputs_of(model: HfModel, launch: ServedLaunch) -> dict[str, int | str]:
    """The inputs of the formula, for people who want to check it."""
    windows = sorted({layer.reach for layer in model.kept if layer.reach})
    found: dict[str, int | str] = {
        "architecture": model.architecture,
        "model_type": model.kind,
        "layers": model.layers,
        "kept_layers": len(model.kept),
        "hidden": model.hidden,
        "heads": model.heads,
        "kv_heads": model.kv_heads,
        "elements_a_token": sum(layer.heads * layer.width for layer in model.kept),
        "vocabulary": model.vocabulary,
        "context": model.context,
        "stored": model.stored,
        "kv_tokens": launch.tokens,
        "block": launch.block,
        "batched_tokens": launch.batched,
        "dtype": launch.dtype,
        "kv_cache_dtype": launch.kv_dtype,
    }
    if windows:
        found |= {"window": ", ".join(map(str, windows)), "sliding_layers": sum(1 for it in model.kept if it.reach)}
    return found | ({"quantized": model.quantized} if model.quantized else {})
