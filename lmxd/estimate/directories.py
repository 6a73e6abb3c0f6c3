"""Model directories: config.json and the headers of all files of weights, remembered while none of them changes."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterator, Set
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

from lmxd.errors import LmxdError
from lmxd.estimate.files import FileMemory, FileVersion, identity, regular, remedy_for
from lmxd.estimate.real_paths import RealPaths
from lmxd.safetensors.documents import DirectoryError, Uncovered, json_object
from lmxd.safetensors.files import CONFIG, TEXTS, WEIGHTS, named_files, weight_files
from lmxd.safetensors.header import StoredTensor, read_header
from lmxd.safetensors.model import HfModel, context_of, model_of

DirectoryVersion: TypeAlias = tuple[FileVersion, ...]
"""The marks of config.json, of the file about the length of texts if there is one, and of all files of weights."""
_MAX_DOCUMENT: Final = 64 * 2**20
"""Bytes. The index of the largest models has 30 MB."""
_MAX_CONFIG: Final = 4 * 2**20
"""Bytes of config.json, which has some kilobytes."""
_MAX_NAMES: Final = 65_536
_MAX_ALL_TENSORS: Final = 1_000_000
"""Of all files together. The largest models have 300,000."""
_MAX_REMEMBERED: Final = 64
_REMEDY: Final = "name a directory as Hugging Face has them"
_known: dict[DirectoryVersion, HfModel | LmxdError] = {}
"""The model, or why it cannot be used as long as its files are the same."""


def is_directory(path: Path) -> bool:
    """Whether a path is a directory for vLLM: with a config.json, and no GGUF files in the place of its weights."""
    try:
        names = os.listdir(path)
    except OSError:
        return False
    return CONFIG in names and (any(name.endswith(WEIGHTS) for name in names) or not any(map(_is_gguf, names)))


def _is_gguf(name: str) -> bool:
    return name.endswith(".gguf")


def read_directory(path: Path) -> HfModel:
    """The model in a directory.

    LmxdError: ``model_file_missing`` if it is none or lacks files; ``bad_model_file`` if a file of it cannot be used,
    or if no formula is sure of what it takes: then ``data`` has ``uncovered``.
    """
    files = _files(path)
    version = _version(path, files)
    found = _known.get(version)  # asked once: another thread may empty it
    if found is None:
        found = _outcome(path, files)
        if len(_known) >= _MAX_REMEMBERED:
            _known.clear()
        _known[version] = found
    if isinstance(found, LmxdError):
        raise LmxdError(found.code, found.message, found.remedy, found.data)
    return found


def _outcome(path: Path, files: tuple[str, ...]) -> HfModel | LmxdError:
    try:
        return _read(path, files)
    except LmxdError as error:
        if error.code != "bad_model_file":
            raise  # it may be opened to us, which changes no mark of it
        return error


def is_read(path: Path) -> bool:
    """Whether ``read_directory`` would answer from memory, be it with the reason why it cannot be used."""
    with suppress(LmxdError):
        return _version(path, _files(path, _read_index)) in _known
    return False


def read_context(path: Path) -> int:
    """The most tokens of the model in a directory by its documents alone, 0 if that does not say.

    LmxdError as for ``read_directory``.
    """
    with _told(path):
        config = _configs.of(path / CONFIG)
        texts = next((path / name for name in TEXTS if (path / name).exists()), None)
        return context_of(config, {} if texts is None else _configs.of(texts))


def _config(path: Path) -> dict[str, Any]:
    return _document(path.parent, path.name)


_configs: Final = FileMemory(_config)


def directory_version(path: Path) -> DirectoryVersion:
    """The mark that tells a model directory from another, and from itself before a change. LmxdError as for reading."""
    return _version(path, _files(path))


def _version(path: Path, files: tuple[str, ...]) -> DirectoryVersion:
    """The marks of the files, as ``identity`` has them: large models have 200, and each estimate asks for them."""
    real_paths = RealPaths()
    return tuple(_mark(path / name, real_paths) for name in files)


def _mark(path: Path, real_paths: RealPaths) -> FileVersion:
    try:
        real = real_paths.of(str(path))
        found = os.stat(real)
    except OSError:
        return identity(path)  # which says why not
    if not stat.S_ISREG(found.st_mode):
        return identity(path)
    return (real, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def stored_bytes(path: Path) -> int:
    """The bytes of all files of weights, also of a model that no formula covers. LmxdError as for reading."""
    return sum(identity(path / name)[3] for name in _files(path) if name.endswith(WEIGHTS))


def _files(path: Path, indexed: Callable[[Path], Set[str]] | None = None) -> tuple[str, ...]:
    """config.json, a file about the length of texts if there is one, and those of weights.

    ``indexed``: those that an index names.
    """
    try:
        names = os.listdir(path)
    except OSError as error:
        raise LmxdError("model_file_missing", f"{path}: {error.strerror}", remedy_for(path, error, _REMEDY)) from error
    if len(names) > _MAX_NAMES:
        raise LmxdError("model_file_missing", f"{path} has {len(names)} entries: it is no model's directory", _REMEDY)
    try:
        texts = [name for name in TEXTS if name in names][:1]
        return (CONFIG, *texts, *weight_files(names, lambda name: (indexed or _indexes.of)(path / name)))
    except DirectoryError as error:
        raise LmxdError("model_file_missing", f"{path}: {error.problem}", error.remedy) from error


def _index(path: Path) -> frozenset[str]:
    """The files that an index names. DirectoryError, and LmxdError as for reading."""
    return named_files(_document(path.parent, path.name), path.name)


_indexes: Final = FileMemory(_index)
"""Of 8 MB it takes 60 ms to read one, and each estimate of each launch asks which files there are."""


def _read_index(path: Path) -> frozenset[str]:
    """The files that an index names, if it was read. LmxdError if not."""
    if not _indexes.has(path):
        raise LmxdError("bad_model_file", f"{path} was not read yet")
    return _indexes.of(path)


def _read(path: Path, files: tuple[str, ...]) -> HfModel:
    tensors: list[StoredTensor] = []
    with _told(path):
        for name in (name for name in files if name.endswith(WEIGHTS)):
            with regular(path / name, _REMEDY) as (file, size):
                tensors += read_header(file, size, name)
            if len(tensors) > _MAX_ALL_TENSORS:
                raise DirectoryError(f"there are more than {_MAX_ALL_TENSORS} tensors")
        return model_of(_document(path, CONFIG), tensors, _texts(path, files))


def _texts(path: Path, names: Collection[str]) -> dict[str, Any]:
    """The document about the length of texts, the first that vLLM would find; empty without one."""
    name = next((name for name in TEXTS if name in names), None)
    return {} if name is None else _document(path, name)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Errors of a directory become what people are told."""
    try:
        yield
    except Uncovered as error:
        about = {"uncovered": error.problem}
        raise LmxdError("bad_model_file", f"{path}: {error.problem}", error.remedy, about) from error
    except DirectoryError as error:
        raise LmxdError("bad_model_file", f"{path}: {error.problem}", error.remedy) from error


def _document(path: Path, name: str) -> dict[str, Any]:
    with regular(path / name, _REMEDY) as (file, size):
        most = _MAX_CONFIG if name in (CONFIG, *TEXTS) else _MAX_DOCUMENT
        if size > most:
            raise DirectoryError(f"{name} has {size} bytes: {most} at most")
        return json_object(file.read(most), name)
