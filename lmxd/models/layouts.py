"""How other tools lay out their model files: where they are, and the names that follow from it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from lmxd.files import read_text
from lmxd.models.quants import named, quant_of, stem_of

_REPOSITORY: Final = re.compile(r"models--(.+)")
_REVISION: Final = "snapshots"
_LARGEST: Final = 256 * 2**10
"""Bytes of a manifest: they have hundreds."""
_MODEL_LAYER: Final = "application/vnd.ollama.image.model"
_DIGEST: Final = re.compile(r"sha256[:-]([0-9a-f]{64})")
_MOST_MANIFESTS: Final = 10_000


def own_models(environ: Mapping[str, str] = os.environ) -> Path:
    """The directory for models of an ordinary user."""
    data = environ.get("XDG_DATA_HOME") or Path(environ.get("HOME") or "/") / ".local/share"
    return Path(data) / "lmxd/models"


def usual_places(environ: Mapping[str, str] = os.environ, home: Path | None = None) -> list[Path]:
    """Where model files of other tools, and lmxd's own, usually are; most are not there on any one machine."""
    home = home or Path(environ.get("HOME") or "/")
    cache = Path(environ.get("XDG_CACHE_HOME") or home / ".cache")
    hub = environ.get("HF_HUB_CACHE") or Path(environ.get("HF_HOME") or cache / "huggingface") / "hub"
    found = [
        own_models({**environ, "HOME": str(home)}),
        Path("/var/lib/lmxd/models"),
        Path(hub),
        Path(environ.get("LLAMA_CACHE") or cache / "llama.cpp"),
        home / ".lmstudio/models",
        cache / "lm-studio/models",
        Path(environ.get("OLLAMA_MODELS") or home / ".ollama/models"),
        Path("/usr/share/ollama/.ollama/models"),
        Path("/var/lib/ollama/models"),
        home / "models",
    ]
    return list(dict.fromkeys(found))


def repository_directory(path: Path) -> Path | None:
    """The directory of a repository in the cache of a hub that a path leads into: its links lead to its blobs."""
    parts = path.parts
    for depth in range(len(parts) - 3, 0, -1):
        if _REPOSITORY.fullmatch(parts[depth]) and parts[depth + 1] == _REVISION:
            return Path(*parts[: depth + 1])
    return None


def newest_first(directories: Sequence[Path]) -> list[Path]:
    """Directories in order; of the revisions of a repository the one first that its branch main is at."""
    found = list(directories)
    if found and found[0].parent.name == _REVISION and (home := repository_directory(found[0] / "x")) is not None:
        try:
            main = read_text(home / "refs/main", _LARGEST, regular=True).strip()
        except (OSError, UnicodeDecodeError):
            return found
        found.sort(key=lambda path: path.name != main)
    return found


def name_of(root: Path, path: Path) -> str:
    """The name of a model file that was found below ``root``: by repository and quantization where there is one."""
    if (directory := repository_directory(path)) is not None:
        return named(directory.name.removeprefix("models--").replace("--", "/"), path.name)
    if (flat := _flat_repository(path)) is not None:
        return named(flat, path.name)
    inside = list(path.parent.relative_to(root).parts)
    if inside and quant_of(f"{inside[-1]}.gguf"):  # a directory for each quantization
        inside.pop()
    if len(inside) >= 2:  # publisher/repository/file, as LM Studio has it, and `hf download --local-dir`
        return named("/".join(inside[-2:]), path.name)
    return stem_of(path.name)


def _flat_repository(path: Path) -> str | None:
    """The repository of a file in llama.cpp's cache, which has all in one directory: ORG_REPO_FILE.gguf.

    A file beside it, manifest=ORG=REPO=TAG.json, says where the names end.
    """
    try:
        manifests = [p.name for p in path.parent.glob("manifest=*.json")][:_MOST_MANIFESTS]
    except OSError:
        return None
    for manifest in manifests:
        words = manifest.removesuffix(".json").split("=")
        if len(words) == 4 and path.name.startswith(f"{words[1]}_{words[2]}_"):
            return f"{words[1]}/{words[2]}"
    return None


def store_models(root: Path) -> Iterator[tuple[str, Path]]:
    """(name, file) of each model in ollama's store; nothing if ``root`` is none."""
    manifests = root / "manifests"
    if not ((root / "blobs").is_dir() and manifests.is_dir()):
        return
    for number, path in enumerate(sorted(manifests.rglob("*"))):
        if number == _MOST_MANIFESTS:
            return
        parts = path.relative_to(manifests).parts
        if len(parts) >= 3 and path.is_file() and (blob := _blob(root, path)) is not None:
            *where, model, tag = (x for x in parts if x not in ("registry.ollama.ai", "library"))
            yield "/".join([*where, model]) + ("" if tag == "latest" else f":{tag}"), blob


def _blob(root: Path, manifest: Path) -> Path | None:
    try:
        layers = json.loads(read_text(manifest, _LARGEST, regular=True))["layers"]
        digests = [str(x["digest"]) for x in layers if x["mediaType"] == _MODEL_LAYER]
        match = _DIGEST.fullmatch(digests[0])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    blob = root / "blobs" / f"sha256-{match[1]}" if match else None
    return blob if blob is not None and blob.is_file() and not blob.is_symlink() else None
