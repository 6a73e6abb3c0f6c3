"""ollama's store: manifests that name the blobs that a model is made of."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lmxd.files import read_text

_KIND: Final = "application/vnd.ollama.image."
_DIGEST: Final = re.compile(r"sha256[:-]([0-9a-f]{64})")
_REGISTRY: Final = "registry.ollama.ai"
_LIBRARY: Final = "library"
_LATEST: Final = "latest"
"""The tag that is meant if none is said."""
_LARGEST: Final = 256 * 2**10
"""Bytes of a manifest: they have hundreds."""
_MOST: Final = 10_000
"""Files of a directory that are looked at."""
_DEEPEST: Final = 8
"""Levels of directories. Names have four at most."""

Told = Callable[[str], None]
"""Hears of what could not be used, and why."""


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model by its names, and its layers: (kind, digest)."""

    name: str
    aliases: tuple[str, ...]
    layers: tuple[tuple[str, str], ...]

    def digest(self, kind: str) -> str | None:
        """The digest of the last layer of a kind; None if there is none."""
        return dict(self.layers).get(kind)

    def digests(self, kind: str) -> list[str]:
        """The digests of all layers of a kind, in their order."""
        return [digest for each, digest in self.layers if each == kind]


def is_store(root: Path) -> bool:
    """Whether a directory is a store."""
    return (root / "blobs").is_dir() and (root / "manifests").is_dir()


def stored_models(root: Path, told: Told) -> Iterator[StoredModel]:
    """The models of a store. Links in it are not followed, and nothing outside of it is looked at."""
    manifests = root / "manifests"
    for path in sorted(_files(manifests, _DEEPEST, told)):
        parts = path.relative_to(manifests).parts
        if len(parts) < 2:
            told(f"{'/'.join(parts)}: is left out, as it is in no directory of a model")
            continue
        name = _name(parts)
        layers = tuple(_layers(name, path, told))
        aliases = (f"{name}:{_LATEST}",) if parts[-1] == _LATEST else ()
        if layers:
            yield StoredModel(name, aliases, layers)


def blob(root: Path, name: str, digest: str, told: Told) -> Path | None:
    """The file of a digest: a regular one in the store, and no link to elsewhere. ``name``: its model's, if told."""
    if (match := _DIGEST.fullmatch(digest)) is None:
        told(f"{name}: {digest!r} is no digest")
        return None
    path = root / "blobs" / f"sha256-{match[1]}"
    if os.path.realpath(path) != os.path.join(os.path.realpath(root), "blobs", path.name):
        told(f"{name}: {path.name} is a link to elsewhere")
    elif not path.is_file():
        told(f"{name}: {path.name} is missing")
    else:
        return path
    return None


def blobs(root: Path, stored: StoredModel, kind: str, told: Told) -> tuple[Path, ...]:
    """The files of a model's layers of a kind, but for those that cannot be used, as above."""
    found = (blob(root, stored.name, digest, told) for digest in stored.digests(kind))
    return tuple(path for path in found if path is not None)


def _files(directory: Path, levels: int, told: Told) -> Iterator[Path]:
    """The regular files below a directory, as many as are looked at."""
    try:
        with os.scandir(directory) as entries:
            for number, entry in enumerate(entries):
                if number == _MOST:
                    told(f"{directory}: only {_MOST} of its files are looked at")
                    return
                if entry.is_file(follow_symlinks=False):
                    yield Path(entry)
                elif levels and entry.is_dir(follow_symlinks=False):
                    yield from _files(Path(entry), levels - 1, told)
    except OSError as error:
        told(f"{directory}: {error.strerror}")


def _name(parts: tuple[str, ...]) -> str:
    """registry.ollama.ai/library/llama3/8b is llama3:8b to those who use it; other registries are part of a name."""
    *where, model, tag = parts
    if where[:1] == [_REGISTRY]:
        where = where[2:] if where[1:2] == [_LIBRARY] else where[1:]
    return "/".join([*where, model]) + ("" if tag == _LATEST else f":{tag}")


def _layers(name: str, path: Path, told: Told) -> Iterator[tuple[str, str]]:
    """(kind, digest) of each layer, as the manifest has them."""
    try:
        layers = json.loads(read_text(path, _LARGEST, regular=True))["layers"]
        for layer in layers:
            yield str(layer["mediaType"]).removeprefix(_KIND), str(layer["digest"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        told(f"{name}: {path} is no manifest: {type(error).__name__}")
