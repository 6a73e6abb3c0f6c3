"""Doubts about a profile of llama-server: keys and files that do not go with its model, as the headers say.

Sources, llama.cpp build 11434: src/llama-adapter.cpp (an adapter's matrices fit those of its model),
common/speculative.cpp (a draft has the model's vocabulary, or proposes nothing, and the server runs on).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from lmxd.config.profile import Profile
from lmxd.engines.llama_cpp.flags import computes_all_outputs
from lmxd.errors import LmxdError
from lmxd.estimate.companions import Companions
from lmxd.estimate.files import read_file, read_model
from lmxd.gguf.header import Array
from lmxd.gguf.model import Model
from lmxd.models.pairing import projectors_of
from lmxd.models.roles import facts_of

_NEAR_SIZES: Final = 128
"""Tokens by which two vocabularies may differ: SPEC_VOCAB_MAX_SIZE_DIFFERENCE."""
_PARTS: Final = {".lora_a": 0, ".lora_b": 1}
"""The two matrices of an adapter -> the dimension that each has in common with the model's own."""
_DOES: Final = {"embedding": "embeds texts", "rerank": "ranks documents"}


def doubts(profile: Profile, path: Path, beside: Companions, flags: Sequence[str]) -> Iterator[str]:
    """A sentence for what llama-server would refuse, leave out, or answer nobody; it begins with the key."""
    projector = beside.projector
    if projector is not None and not projectors_of(path, [path], [projector]):
        why = f"its embeddings are not as long as those of {path.name}"
        yield f"mmproj: {projector} seems to be another model's: {why}"
    yield from _of_answers(profile, path, flags)
    try:
        model = read_model(path)
        for adapter in beside.adapters:
            yield from _of_adapter(adapter.path, model, path)
        if beside.draft is not None:
            yield from _of_draft(beside.draft.path, path)
    except LmxdError:
        return  # the estimate raises the error
    if profile.n_cpu_moe and not any("_exps" in tensor.name for tensor in model.tensors):
        yield f"n_cpu_moe: {path.name} has no experts to keep in RAM: take it out, or set n_cpu_ffn"


def _of_adapter(adapter: Path, model: Model, path: Path) -> Iterator[str]:
    header = read_file(adapter)
    if (arch := header.metadata.get("general.architecture")) != model.arch:
        yield f"lora: {adapter} seems to be another model's: it is for {arch!r}, {path.name} is {model.arch!r}"
        return
    for tensor in header.tensors:
        name, part = tensor.name[: -len(".lora_a")], tensor.name[-len(".lora_a") :]
        base = model.shapes.get(name)
        common = _PARTS.get(part)
        if common is None or name == "token_embd.weight":
            continue
        if base is None or len(base.shape) <= common or base.shape[common] != tensor.shape[common]:
            yield f"lora: {adapter} seems to be another model's: its {name} does not fit that of {path.name}"
            return


def _of_draft(draft: Path, path: Path) -> Iterator[str]:
    (mine, kind), (other, others_kind) = _vocabulary(path), _vocabulary(draft)
    if mine and other and (kind != others_kind or abs(mine - other) > _NEAR_SIZES):
        why = f"it has another vocabulary than {path.name}, with {other} tokens, not {mine}"
        yield f"draft: {draft} would be loaded and propose nothing: {why}: name one of the same family"


def _vocabulary(path: Path) -> tuple[int, object]:
    """(tokens, kind of tokenizer); 0 of a file without a vocabulary."""
    said = read_file(path).metadata
    tokens = said.get("tokenizer.ggml.tokens")
    return tokens.length if isinstance(tokens, Array) else 0, said.get("tokenizer.ggml.model")


def _of_answers(profile: Profile, path: Path, flags: Sequence[str]) -> Iterator[str]:
    answers = facts_of(path).answers
    if answers and not computes_all_outputs(flags):
        why = f"{path.name} {_DOES[answers]}, as its header says, but is not started for that"
        yield f"{answers}: {why}: set {answers}: true"
    if profile.rerank and answers != "rerank" and not _scores(path):
        yield f"rerank: {path.name} was not made to rank, so that its scores mean nothing: name a model that was"
    if profile.embedding and profile.pooling is None and answers is None:
        why = f"{path.name} names no pooling, without which OpenAI's API has no vector of a text"
        yield f"embedding: {why}: set pooling, such as mean"


def _scores(path: Path) -> bool:
    """Whether a model has the layer that makes a score of a text."""
    try:
        return any(tensor.name.startswith("cls.") for tensor in read_file(path).tensors)
    except LmxdError:
        return True  # nobody knows
