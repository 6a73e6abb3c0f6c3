"""Model files: opened, all parts read, and remembered for as long as they do not change."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final, Generic, TypeAlias, TypeVar

from lmxd.errors import LmxdError
from lmxd.files import let_in, obstacle
from lmxd.gguf.facts import Unsupported, beside_key, model_of, vocabulary_of
from lmxd.gguf.header import Header, HeaderError, Tensor, read_header
from lmxd.gguf.model import Model
from lmxd.gguf.split import part_names

T = TypeVar("T")
FileVersion: TypeAlias = tuple[str, int, int, int, int]
"""The real path, device, inode, size, and time of the last change."""
_MAX_REMEMBERED = 256
"""Models whose facts are kept, so that a large directory of files does not fill the memory."""
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
"""Opening never waits, whatever the name has come to stand for."""


class FileMemory(Generic[T]):
    """The facts that ``read`` finds in model files, kept for as long as a file does not change."""

    def __init__(self, read: Callable[[Path], T]) -> None:
        self._read = read
        self._known: dict[FileVersion, T] = {}

    def has(self, path: Path) -> bool:
        """Whether ``of`` would answer from memory. LmxdError ``model_file_missing``."""
        return identity(path) in self._known

    def of(self, path: Path) -> T:
        """The facts of the file at ``path``. LmxdError ``model_file_missing``, or what ``read`` raises."""
        key = identity(path)
        found = self._known.get(key)  # asked once: another thread may empty it
        if found is None:
            found = self._read(path)
            if len(self._known) >= _MAX_REMEMBERED:
                self._known.clear()
            self._known[key] = found
        return found


def read_model(path: Path) -> Model:
    """The facts of the model in ``path`` (the first part, if it is split).

    Raises LmxdError: ``model_file_missing`` if it is not there or not a regular file,
    ``bad_model_file`` if its header cannot be used or the closed form does not cover it.
    """
    return _models.of(path)


def headers(path: Path) -> dict[Path, int]:
    """The files of the model in ``path`` -> the bytes at their beginning that are not of tensors, if not fewer.

    All of a file that ``read_model`` refuses. OSError if one is not there.
    """
    try:
        tensors = read_model(path).tensors
    except LmxdError:
        return {path: path.stat().st_size}
    count = 1 + max((t.part for t in tensors), default=0)
    ends = [0] * count
    for t in tensors:
        ends[t.part] = max(ends[t.part], t.offset + t.nbytes)
    names = [path] if count == 1 else [Path(name) for name in part_names(str(path), count)]
    return {name: max(0, name.stat().st_size - end) for name, end in zip(names, ends, strict=True)}


def is_read(path: Path) -> bool:
    """Returns whether ``read_model`` would answer from memory."""
    return _models.has(path)


_BESIDE: Final = {"mmproj": "a projector", "lora": "an adapter (LoRA)"}
"""The files that go beside a model, by the key of a profile that names one."""


def _read(path: Path) -> Model:
    header = read_file(path)
    if key := beside_key(header.metadata):
        remedy = f"name it by the key {key} of the model that it is for"
        raise LmxdError("bad_model_file", f"{path} is {_BESIDE[key]}, no model, as its header says", remedy)
    try:
        return model_of(header, all_tensors(path, header))
    except Unsupported as error:
        arch = header.metadata["general.architecture"]
        about = {"uncovered": arch, "vocabulary": vocabulary_of(header)}
        about |= {"context": header.metadata.get(f"{arch}.context_length", 0)}
        raise LmxdError("bad_model_file", f"{path}: {error}", data=about) from error
    except HeaderError as error:
        raise LmxdError("bad_model_file", f"{path}: {error}", "fetch or convert the file again") from error


_models = FileMemory(_read)


def all_tensors(path: Path, header: Header) -> tuple[Tensor, ...]:
    """The tensors of all parts. HeaderError if those do not belong together; LmxdError as for ``read_file``."""
    count = header.metadata.get("split.count", 1)
    if not isinstance(count, int) or count <= 1:
        return header.tensors
    if header.metadata.get("split.no", 0) != 0:
        raise HeaderError("this is not the first part of a split model: name the part that ends in -00001-of-…")
    try:
        names = part_names(str(path), count)
    except ValueError as error:
        raise HeaderError(str(error)) from error
    tensors = list(header.tensors)
    for part, name in enumerate(names[1:], start=1):
        tensors += (replace(tensor, part=part) for tensor in read_file(Path(name)).tensors)
    if len({t.name for t in tensors}) != len(tensors):
        raise HeaderError("a tensor occurs in two parts")
    expected = header.metadata.get("split.tensors.count", len(tensors))
    if expected != len(tensors):
        raise HeaderError(f"the parts hold {len(tensors)} tensors, not {expected}: a part belongs to another model")
    return tuple(tensors)


def read_file(path: Path) -> Header:
    """The header of one file. LmxdError as for ``read_model``."""
    identity(path)
    try:
        with regular(path, "name a GGUF file") as (file, size):
            return read_header(file, size)
    except HeaderError as error:
        raise LmxdError("bad_model_file", f"{path}: {error}", "fetch or convert the file again") from error


@contextmanager
def regular(path: Path, remedy: str) -> Iterator[tuple[BinaryIO, int]]:
    """A regular file, open, and its bytes. LmxdError ``model_file_missing`` for anything else, with a ``remedy``."""
    try:
        with open(os.open(path, _READ), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):  # it was one when it was looked at
                raise LmxdError("model_file_missing", f"{path} is not a regular file", remedy)
            yield file, found.st_size
    except OSError as error:
        remedy = remedy_for(path, error, "check the path and its permissions")
        raise LmxdError("model_file_missing", f"{path}: {error.strerror}", remedy) from error


def remedy_for(path: Path, error: Exception, usual: str) -> str:
    """The usual remedy; of a file that is shut for us, how it is opened."""
    barred = obstacle(path) if isinstance(error, PermissionError) else None
    return usual if barred is None else let_in(_me(), path, barred)


def _me() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def identity(path: Path, key: str = "path") -> FileVersion:
    """The mark that tells a file from another, and from itself before a change. ``key``: of the profile that names it.

    LmxdError ``model_file_missing`` if it is not there or not a regular file.
    """
    try:
        real = path.resolve(strict=True)
        found = real.stat()
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        remedy = f"set {key}, or put the file into model_dir"
        raise LmxdError("model_file_missing", f"{path}: {reason}", remedy_for(path, error, remedy)) from error
    if not stat.S_ISREG(found.st_mode):
        raise LmxdError("model_file_missing", f"{path} is not a regular file", "name a GGUF file")
    return (str(real), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
