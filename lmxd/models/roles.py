"""The role of a GGUF file, as its header says: a model, or a part that goes beside one."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from lmxd.gguf.architectures import WITHOUT_LOGITS
from lmxd.gguf.facts import beside_key
from lmxd.gguf.header import Header, HeaderError, read_header
from lmxd.models.quants import is_projector, stem_of

_DRAFT: Final = re.compile(r"(?:^mtp|(?:^|[-_.])draft)(?=[-_.]|$)", re.IGNORECASE)
"""Names of models that only propose tokens for another one, and of a model's drafting layers alone."""
_RANKS: Final = 4
"""The pooling of models that rank documents: llama.h's LLAMA_POOLING_TYPE_RANK."""
_ENCODERS: Final = ("", "vision.", "audio.")
_REMEMBERED: Final = 8192
"""Files whose headers are not read again as long as they do not change: directories are looked through each second."""
_READ: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class Role(Enum):
    """The use of a file. The value is the key of a profile that names it."""

    MODEL = "path"
    PROJECTOR = "mmproj"
    ADAPTER = "lora"
    DRAFT = "draft"


@dataclass(frozen=True, kw_only=True, slots=True)
class FileFacts:
    """The role of a file, and what tells which files go together.

    ``widths``: of a model the length of its embeddings; of a projector the lengths that its own may have. None are
    known of what cannot be read. ``answers``: the key of a profile for a model that writes no text.
    """

    role: Role
    widths: frozenset[int] = frozenset()
    answers: str | None = None


def facts_of(path: Path) -> FileFacts:
    """The facts of a file; by its name, where its header cannot be read."""
    try:
        found = path.stat()
        return _facts(path, (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns))
    except (OSError, HeaderError):
        return FileFacts(role=_by_name(path.name))


def answers_of(architecture: str, metadata: Mapping[str, Any]) -> str | None:
    """The answers of a model that writes no text: ``embedding`` or ``rerank``; None of one that does."""
    pooling = metadata.get(f"{architecture}.pooling_type")
    if pooling == _RANKS:
        return "rerank"
    return "embedding" if pooling or architecture in WITHOUT_LOGITS else None


@lru_cache(maxsize=_REMEMBERED)
def _facts(path: Path, _version: tuple[int, int, int, int]) -> FileFacts:
    with open(os.open(path, _READ), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise HeaderError("not a regular file")
        header = read_header(file, found.st_size)
    said = header.metadata
    architecture = str(said.get("general.architecture", ""))
    if key := beside_key(said):
        role = Role(key)
        return FileFacts(role=role, widths=_projected(header) if role is Role.PROJECTOR else frozenset())
    width = said.get(f"{architecture}.embedding_length")
    return FileFacts(
        role=_by_name(path.name),
        widths=frozenset((width,)) if isinstance(width, int) else frozenset(),
        answers=answers_of(architecture, said),
    )


def _by_name(name: str) -> Role:
    if is_projector(name):
        return Role.PROJECTOR
    return Role.DRAFT if _DRAFT.search(stem_of(name)) else Role.MODEL


def _projected(header: Header) -> frozenset[int]:
    """The lengths that the embeddings of a projector may have: those of its last layers but for the encoder's own.

    Converters say which it is; older ones say another figure, which none of these layers has.
    """
    layers = {length for tensor in header.tensors if tensor.name.startswith("mm.") for length in tensor.shape}
    own = {header.metadata.get(f"clip.{kind}embedding_length") for kind in _ENCODERS}
    said = {header.metadata.get(f"clip.{kind}projection_dim") for kind in _ENCODERS}
    return frozenset(length for length in (layers - own) & said or layers - own or layers if isinstance(length, int))
