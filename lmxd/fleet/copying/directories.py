"""A model's directory as its node offers it: weights and documents, of its own, and none of its code."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Final

from lmxd.errors import LmxdError
from lmxd.fleet.copying.manifest import MOST_FILES
from lmxd.models.layouts import repository_directory
from lmxd.safetensors.documents import DirectoryError, json_object
from lmxd.safetensors.files import CONFIG, MAX_DOCUMENT, is_document, is_plain, named_files, weight_files

_MODULES: Final = "modules.json"
"""A file of models of Sentence Transformers, whose pooling is in directories beside it."""
_OTHERWISE: Final = "copy its files as you copy others, and write a profile"


def offered(model: str, directory: Path) -> dict[str, Path]:
    """The files of a directory that are offered, where they really are, by name. LmxdError ``model_file_missing``."""
    try:
        names = os.listdir(directory)
        weights = weight_files(names, lambda name: _named(directory / name, _changed(directory / name)))
        wanted = {*weights, *(name for name in names if is_plain(name) and is_document(name))}
        if _MODULES in wanted:
            raise DirectoryError("it is of Sentence Transformers, which have directories of their own", _OTHERWISE)
        if wrong := sorted(name for name in weights if not is_plain(name)):
            raise DirectoryError(f"{wrong[0][:200]!r} is a name that not every box has", "rename it")
        if len(wanted) > MOST_FILES:
            raise DirectoryError(f"{len(wanted)} files are more than {MOST_FILES}", _OTHERWISE)
        there = {name: _own(directory, name) for name in sorted(wanted)}
        return {name: path for name, path in there.items() if _counts(name, path.stat().st_size)}
    except DirectoryError as error:
        raise LmxdError("model_file_missing", f"{model}: {error.problem}", error.remedy) from error
    except OSError as error:
        where = Path(error.filename or directory).name
        raise LmxdError("model_file_missing", f"{model}: {where}: {error.strerror}", _readable(model)) from error


def code_of(directory: Path) -> list[str]:
    """The names of what would be run."""
    names = (name.removesuffix(".py") for name in os.listdir(directory) if name.endswith(".py"))
    return sorted(f"{name}.py" for name in names if is_plain(f"{name}.json"))[:MOST_FILES]


def _readable(model: str) -> str:
    return f"the node's user has to be able to read all files of {model}"


def _counts(name: str, size: int) -> bool:
    """Whether a file is copied: an empty one says nothing, and what is as large as weights is no document."""
    return size > 0 and not (is_document(name) and size > MAX_DOCUMENT)


def _own(directory: Path, name: str) -> Path:
    """The real path of a file. DirectoryError if a link leads out of the directory, or of its repository in a cache."""
    real, own = (directory / name).resolve(strict=True), directory.resolve()
    if not real.is_relative_to(repository_directory(own / CONFIG) or own):
        raise DirectoryError(f"{name} is a link that leads out of its directory", "put the file there")
    return real


def _changed(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


@lru_cache(maxsize=8)
def _named(path: Path, version: tuple[int, int]) -> frozenset[str]:
    """The files that an index names: each file that is asked for is looked up in it."""
    if not path.is_file():
        raise DirectoryError(f"{path.name} is not a regular file")
    if version[0] > MAX_DOCUMENT:
        raise DirectoryError(f"{path.name} has {version[0]} bytes: {MAX_DOCUMENT} at most")
    return named_files(json_object(path.read_bytes(), path.name), path.name)
