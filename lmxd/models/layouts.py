"""How other tools lay out their model files: where they are, and the names that follow from it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from lmxd.files import read_text
from lmxd.models.quants import named, quant_of, says_nothing, stem_of
from lmxd.xdg import home as own_home
from lmxd.xdg import own_directory

_REPOSITORY: Final = re.compile(r"models--(.+)")
_REVISION: Final = "snapshots"
_OF_SERVICES: Final = (
    "/usr/share/ollama/.ollama/models",
    "/var/lib/ollama/models",
    "/var/snap/ollama/common/models",
)
"""Stores of ollama's services."""
_REVISIONS: Final = re.compile(r"snapshots|sha256[-:][0-9a-f]+")
"""Directories that hold the revisions of a repository, as ramalama has them."""
_NO_NAME: Final = re.compile(r"[^A-Za-z0-9._+-]+")
_LARGEST: Final = 4096
"""Bytes of a file that names another."""


def own_models(environ: Mapping[str, str] = os.environ) -> Path:
    """The directory for models of an ordinary user."""
    return own_directory("XDG_DATA_HOME", ".local/share", environ) / "lmxd/models"


def usual_places(environ: Mapping[str, str] = os.environ, home: Path | None = None) -> list[Path]:
    """Where model files of other tools, and lmxd's own, usually are; most are not there on any one machine."""
    home = home or own_home(environ)
    mine = {**environ, "HOME": str(home)}
    cache, data = own_directory("XDG_CACHE_HOME", ".cache", mine), own_directory("XDG_DATA_HOME", ".local/share", mine)
    hub = environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE")
    found = [
        own_models(mine),
        Path("/var/lib/lmxd/models"),
        Path(hub or Path(environ.get("HF_HOME") or cache / "huggingface") / "hub"),
        Path(environ.get("LLAMA_CACHE") or cache / "llama.cpp"),
        _lm_studio(home) / "models",
        cache / "lm-studio/models",
        *ollama_places(environ, home),
        data / "nomic.ai/GPT4All",
        data / "Jan/data/llamacpp/models",
        home / "jan/models",
        data / "ramalama/store",
        home / "models",
    ]
    return list(dict.fromkeys(found))


def ollama_places(environ: Mapping[str, str] = os.environ, home: Path | None = None) -> list[Path]:
    """Where ollama keeps its models: it says so by OLLAMA_MODELS, or they are in a home, a service's or the user's."""
    if said := environ.get("OLLAMA_MODELS"):
        return [Path(said)]
    home = home or own_home(environ)
    return [home / ".ollama/models", *map(Path, _OF_SERVICES)]


def _lm_studio(home: Path) -> Path:
    """Its directory: a file in the home says where, if it was moved."""
    try:
        said = read_text(home / ".lmstudio-home-pointer", _LARGEST, regular=True).strip()
    except (OSError, ValueError):
        said = ""
    return Path(said) if said.startswith("/") else home / ".lmstudio"


def repository_directory(path: Path) -> Path | None:
    """The directory of a repository in the cache of a hub that a path leads into: its links lead to its blobs."""
    parts = path.parts
    for depth in range(len(parts) - 3, 0, -1):
        if _REPOSITORY.fullmatch(parts[depth]) and parts[depth + 1] == _REVISION:
            return Path(*parts[: depth + 1])
    return None


def directory_name(model: str) -> str:
    """The name of the directory that a model comes to: its own, as far as any box may have it."""
    return _NO_NAME.sub("-", model).strip("-._+") or "model"


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


def name_of(root: Path, path: Path, repositories: Mapping[str, str]) -> str:
    """The name of a model file that was found below ``root``: by repository and quantization where there is one.

    ``repositories``: those of the directory that it is in, as ``flat_repositories`` has them.
    """
    if (directory := repository_directory(path)) is not None:
        return named(directory.name.removeprefix("models--").replace("--", "/"), path.name)
    for end in (at for at, letter in enumerate(path.name) if letter == "_"):
        if (flat := repositories.get(path.name[:end])) is not None:
            return named(flat, path.name)
    inside = [part for part in path.parent.relative_to(root).parts if not _REVISIONS.fullmatch(part)]
    if inside and quant_of(f"{inside[-1]}.gguf"):  # a directory for each quantization
        inside.pop()
    if len(inside) >= 2:  # publisher/repository/file, as LM Studio has it, and `hf download --local-dir`
        return named("/".join(inside[-2:]), path.name)
    return named(inside[-1], path.name) if inside and says_nothing(path.name) else stem_of(path.name)


def flat_repositories(names: Iterable[str]) -> dict[str, str]:
    """ORG_REPO -> ORG/REPO, of a directory that llama.cpp keeps all its files in, as ORG_REPO_FILE.gguf.

    Files among them, manifest=ORG=REPO=TAG.json, say where the names end.
    """
    manifests = (name.removesuffix(".json").split("=") for name in names if name.startswith("manifest="))
    return {f"{words[1]}_{words[2]}": f"{words[1]}/{words[2]}" for words in manifests if len(words) == 4}
