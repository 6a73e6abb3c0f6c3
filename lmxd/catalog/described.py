"""Model files described for people and clients: what their headers say, beside their bytes and their time."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lmxd.catalog.model_files import parts
from lmxd.engines.allow_list import value_of
from lmxd.errors import LmxdError
from lmxd.estimate.files import FileMemory, all_tensors, read_file
from lmxd.gguf.header import Header, HeaderError, Scalar
from lmxd.models.quants import quant_of
from lmxd.models.roles import answers_of

_DIGESTED: Final = 2**20
"""Bytes at the beginning of a file, the header, of which a digest is made: of all of it would take minutes."""
_SHA256: Final = re.compile(r"(?:sha256[-:])?([0-9a-f]{64})")
"""The name of a file in the stores of ollama and of Hugging Face: the digest of all of it."""
_TEMPLATE: Final = "tokenizer.chat_template"
_TYPES: Final = {
    **dict(enumerate("F32 F16 Q4_0 Q4_1".split())),
    **dict(enumerate("Q8_0 Q5_0 Q5_1 Q2_K Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K".split(), 7)),
    **dict(enumerate("IQ2_XXS IQ2_XS Q2_K_S IQ3_XS IQ3_XXS IQ1_S IQ4_NL IQ3_S IQ3_M IQ2_S IQ2_M".split(), 19)),
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4_MOE",
}
"""``general.file_type``: llama.h's enum llama_ftype."""
_EMBEDS: Final = ("--embedding", "--embeddings", "--is-embedding", "--pooling", "--pooler-config")
_EMBEDS_BY_VALUE: Final = {"--runner": "pooling", "--task": "embed", "--convert": "embed"}
_RERANKS: Final = ("--rerank", "--reranking")
_CALLS: Final = ("--enable-auto-tool-choice", "--tool-call-parser")
_SEES: Final = ("--mmproj", "-mm", "--limit-mm-per-prompt")
_ENCODERS: Final = {"clip.has_vision_encoder": "image", "clip.has_audio_encoder": "audio"}
"""A key of a projector's file -> what it turns into tokens."""
_ABILITIES: Final = {"image": "vision", "audio": "audio"}
_THINKS: Final = ("--reasoning-parser",)
_MAX_KEYS: Final = 512
"""Of metadata. Models have some forty; a file may have been made to fill answers."""
_LONGEST: Final = 4096
"""Characters of a text of the metadata, such as a license, that is told; a template may be longer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFile:
    """The facts of a model's file. ``size``: bytes of all its parts; ``modified``: seconds since 1970.

    ``digest``: 64 hexadecimal digits that stay the same. ``parameters``: how many; 0 if it does not say. ``media``: the
    kinds of media that the model itself turns into tokens.
    """

    size: int
    modified: float
    digest: str
    architecture: str
    parameters: int
    quantization: str
    trained: int | None
    metadata: Mapping[str, Scalar]
    template: str | None
    format: str = "gguf"
    media: tuple[str, ...] = ()


def is_described(path: Path) -> bool:
    """Whether ``describe`` takes no time. LmxdError ``model_file_missing``."""
    return _files.has(path)


def describe(path: Path) -> ModelFile:
    """The facts of the file at ``path``, remembered as long as it does not change. LmxdError if it cannot be read."""
    return _files.of(path)


def _read(path: Path) -> ModelFile:
    header = read_file(path)
    said = _scalars(header)
    found = path.stat()
    kind, template = said.get("general.file_type"), said.pop(_TEMPLATE, None)
    architecture = str(said.get("general.architecture", ""))
    trained = said.get(f"{architecture}.context_length")
    return ModelFile(
        size=sum(part.stat().st_size for part in parts(path.resolve())),
        modified=found.st_mtime,
        digest=_digest(path.resolve(), found.st_size),
        architecture=architecture,
        parameters=_parameters(path, header),
        quantization=(_TYPES.get(kind) if isinstance(kind, int) else None) or quant_of(path.name) or "",
        trained=trained if isinstance(trained, int) and 0 < trained < 2**31 else None,
        metadata=said,
        template=template if isinstance(template, str) else None,
    )


_files = FileMemory(_read)


def _scalars(header: Header) -> dict[str, Scalar]:
    """The metadata but for lists, and for numbers that JSON does not have."""
    return {
        key: value
        for key, value in list(header.metadata.items())[:_MAX_KEYS]
        if isinstance(value, int)
        or (isinstance(value, float) and math.isfinite(value))
        or (isinstance(value, str) and (len(value) <= _LONGEST or key == _TEMPLATE))
    }


def _parameters(path: Path, header: Header) -> int:
    said = header.metadata.get("general.parameter_count")
    if isinstance(said, int) and said > 0:
        return said
    try:
        tensors = all_tensors(path, header)
    except (HeaderError, LmxdError):
        tensors = header.tensors
    return sum(math.prod(tensor.shape) for tensor in tensors)


def _digest(path: Path, size: int) -> str:
    """The digest that the file's name is, else one of its size and its header."""
    if named := _SHA256.fullmatch(path.name):
        return named[1]
    made = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        made.update(file.read(_DIGESTED))
    return made.hexdigest()


def media(projector: ModelFile) -> list[str]:
    """The kinds of media that a projector turns into tokens."""
    return [kind for key, kind in _ENCODERS.items() if projector.metadata.get(key) is True]


def capabilities(file: ModelFile | None, words: Sequence[str], taken: Sequence[str] = ()) -> list[str]:
    """The abilities of a model, as ollama calls them. ``words``: its engine's flags, or its whole command.

    ``taken``: the media that it is known to take.
    """
    template = (file and file.template) or ""
    answers = None if file is None else answers_of(file.architecture, file.metadata)
    if _has(words, _RERANKS) or (answers == "rerank" and not _has(words, _EMBEDS)):
        return ["rerank"]
    by_value = any(value_of(words, flag) == value for flag, value in _EMBEDS_BY_VALUE.items())
    if _has(words, _EMBEDS) or by_value or answers is not None:
        return ["embedding"]
    found = ["completion"]
    found += ["tools"] if "tools" in template or _has(words, _CALLS) else []
    found += [_ABILITIES[kind] for kind in taken] or (["vision"] if _has(words, _SEES) else [])
    thinks = any(word in template for word in ("enable_thinking", "reasoning_effort", "<think>"))
    return found + (["thinking"] if thinks or _has(words, _THINKS) else [])


def _has(words: Sequence[str], flags: Sequence[str]) -> bool:
    return any(word == flag or word.startswith(f"{flag}=") for word in words for flag in flags)
