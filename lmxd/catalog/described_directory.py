"""Model directories described for people and clients, as ``described`` does it for files."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Final

from lmxd.catalog.described import ModelFile
from lmxd.errors import LmxdError
from lmxd.estimate.directories import DirectoryVersion, directory_version, read_directory, stored_bytes
from lmxd.estimate.files import regular
from lmxd.gguf.header import Scalar
from lmxd.models.layouts import repository_directory
from lmxd.safetensors.documents import DirectoryError, json_object
from lmxd.safetensors.files import CONFIG
from lmxd.safetensors.model import HfModel

_TEMPLATES: Final = ("chat_template.jinja", "chat_template.json", "tokenizer_config.json")
"""The files that may have the template, in the order in which transformers looks."""
_MOST: Final = 8 * 2**20
"""Bytes of such a file. A tokenizer's configuration with its added tokens has some hundred thousand."""
_MOST_KEYS: Final = 512
_LONGEST: Final = 4096
_REMEMBERED: Final = 64
_MEDIA: Final = {"vision_config": "image", "audio_config": "audio"}


def describe_directory(path: Path) -> ModelFile:
    """The facts of the directory at ``path``, remembered as long as its weights do not change. LmxdError."""
    return _described(path, directory_version(path))


@lru_cache(maxsize=_REMEMBERED)
def _described(path: Path, version: DirectoryVersion) -> ModelFile:
    model = read_directory(path)
    return ModelFile(
        size=stored_bytes(path),
        modified=max(changed for *_, changed in version) / 1e9,
        digest=_digest(model),
        architecture=model.kind,
        parameters=sum(math.prod(tensor.shape) for tensor in model.tensors),
        quantization=model.quantized or _usual_type(model),
        trained=model.context or None,
        metadata=_scalars(model.whole),
        template=_template(path),
        format="safetensors",
        media=tuple(medium for key, medium in _MEDIA.items() if isinstance(model.whole.get(key), dict)),
    )


def _digest(model: HfModel) -> str:
    """64 hexadecimal digits of its configuration and its tensors' shapes: of all bytes it would take minutes."""
    shapes = [(tensor.name, tensor.type, tensor.shape) for tensor in model.tensors]
    return hashlib.sha256(json.dumps([dict(model.whole), shapes], sort_keys=True).encode()).hexdigest()


def _usual_type(model: HfModel) -> str:
    """The type of most of its bytes."""
    sizes: Counter[str] = Counter()
    for tensor in model.tensors:
        sizes[tensor.type] += tensor.nbytes
    return sizes.most_common(1)[0][0] if sizes else ""


def _scalars(config: Mapping[str, Any]) -> dict[str, Scalar]:
    return {
        key: value
        for key, value in list(config.items())[:_MOST_KEYS]
        if isinstance(value, int)
        or (isinstance(value, float) and math.isfinite(value))
        or (isinstance(value, str) and len(value) <= _LONGEST and _is_text(value))
        if _is_text(key)
    }


def _is_text(value: str) -> bool:
    """Whether a string can be said in UTF-8: JSON may have halves of characters."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _template(path: Path) -> str | None:
    """Its chat template; None if it has none that can be read."""
    for name in _TEMPLATES:
        with suppress(LmxdError, DirectoryError, OSError, UnicodeDecodeError), regular(path / name, "") as (file, size):
            if size > _MOST or not _is_its_own(file, path):
                continue
            data = file.read(_MOST)
            found = data.decode() if name.endswith(".jinja") else _said(json_object(data, name).get("chat_template"))
            if found is not None:
                return found
    return None


def _is_its_own(file: BinaryIO, directory: Path) -> bool:
    """Whether an open file is of a directory, or of the cache of a hub that it is in.

    A link may lead to any file that we may read, and whoever asks is shown the template.
    """
    real, own = Path(os.readlink(f"/proc/self/fd/{file.fileno()}")), directory.resolve()
    return real.is_relative_to(repository_directory(own / CONFIG) or own)


def _said(template: object) -> str | None:
    """The template of a tokenizer's configuration: a text, or several with names, of which one is the usual."""
    if isinstance(template, list):
        named = (each for each in template if isinstance(each, dict) and each.get("name") == "default")
        template = next(named, {}).get("template")
    return template if isinstance(template, str) and _is_text(template) else None
