"""Models as Hugging Face has them: a directory with config.json and the weights in *.safetensors."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lmxd.config.names import fitting
from lmxd.files import read_text
from lmxd.models.layouts import newest_first, repository_directory

_CONFIG: Final = "config.json"
_WEIGHTS: Final = ".safetensors"
_LARGEST: Final = 2**20
"""Bytes of a config.json that is read."""
_DEEPEST: Final = 12
MOST_ENTRIES: Final = 200_000
"""As for model files."""
_WRITERS: Final = ("ForCausalLM", "ForConditionalGeneration")
"""Ends of the names of architectures that write text."""


@dataclass(frozen=True, slots=True)
class ModelDirectory:
    """A directory that an engine such as vLLM can serve. ``size``: bytes of its weights."""

    name: str
    path: Path
    size: int


def model_directories(
    root: Path,
    told: Callable[[Path], None] = lambda _: None,
    left: Callable[[str], object] = lambda _: None,
) -> list[ModelDirectory]:
    """The models in a directory and below, of a repository's revisions the latest. What cannot be read is passed by.

    ``told`` of each directory that it comes to, and what is ``left`` in a sentence where there is too much.
    """
    found, repositories, room = list[ModelDirectory](), set[Path](), [MOST_ENTRIES]
    for directory, names in _through(Path(os.path.abspath(root.expanduser())), _DEEPEST, room):
        told(directory)
        repository = repository_directory(directory / _CONFIG)
        if repository in repositories or (size := _weights(directory, names)) is None:
            continue
        if repository is not None:
            repositories.add(repository)
        found.append(ModelDirectory(_name(directory, repository), directory, size))
    if room[0] < 0:
        left(f"{root}: is not looked at to its end, as there are {MOST_ENTRIES} files already")
    return found


def _through(directory: Path, levels: int, room: list[int]) -> Iterator[tuple[Path, list[str]]]:
    """Each directory, and the names in it. ``room``: how many more are looked at."""
    try:
        every = os.listdir(directory)
    except OSError:
        return
    names = sorted(every)[: max(0, room[0])]
    room[0] -= len(every)
    yield directory, names
    inner = [directory / name for name in names if not name.startswith(".")]
    for path in newest_first([path for path in inner if path.is_dir() and not path.is_symlink()]) if levels else ():
        yield from _through(path, levels - 1, room)


def _weights(directory: Path, names: list[str]) -> int | None:
    """Bytes of its weights; None if it is no whole model that writes text."""
    files = [directory / name for name in names if name.endswith(_WEIGHTS)]
    if _CONFIG not in names or not files:
        return None
    try:
        config = json.loads(read_text(directory / _CONFIG, _LARGEST, regular=True))
        architectures = config["architectures"]
        if not any(str(name).endswith(_WRITERS) for name in architectures):
            return None
        return sum(file.stat().st_size for file in files)
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
        return None


def _name(directory: Path, repository: Path | None) -> str:
    if repository is None:
        return fitting(directory.name)
    return fitting(repository.name.removeprefix("models--").replace("--", "/"))
