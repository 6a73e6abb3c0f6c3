"""The files that the daemon opens as models: regular files in directories that the configuration names.

``model_dir``, ``model_dirs``, ``models_from``, or an absolute ``path`` of a profile name a directory. A path into the
cache of a hub names the whole repository, whose links lead to its blobs. Links are followed only into these
directories. A user who can write into one of them can make lmxd open no file elsewhere. A daemon that serves its own
user alone opens that user's files wherever they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from lmxd.catalog.elsewhere import elsewhere
from lmxd.config.schema import Config
from lmxd.errors import LmxdError
from lmxd.gguf.split import MAX_PARTS, part_names, part_number
from lmxd.models.layouts import repository_directory

_Identity: TypeAlias = tuple[int, int]
"""Device and inode."""


class ModelFiles:
    """Finds the model files of one configuration, in its directories only."""

    def __init__(self, config: Config, owner: int | None = None) -> None:
        """``owner``: the uid whose files may be anywhere; None for nobody's."""
        said = [path for p in config.models.values() for path in (*((p.path,) if p.path else ()), *p.files)]
        paths = [path.expanduser() for path in said]
        named = [
            repository_directory(path) or path.parent for path in paths if path.is_absolute() and ".." not in path.parts
        ]
        self._owner = owner
        self._model_dir = config.model_dir.expanduser()
        self._known: dict[Path, tuple[Path, list[_Identity | None]]] = {}
        shared = [config.model_dir, *config.model_dirs, *config.models_from]
        self._allowed = list(dict.fromkeys(_resolved([*shared, *named])))

    def find(self, name: str, path: Path | None) -> Path | LmxdError:
        """The file of a profile: at ``path``, or by the profile's name; or the error why it cannot be used."""
        try:
            return self._at(find_model(self._model_dir, name) if path is None else path)
        except LmxdError as error:
            return error

    def directory(self, name: str, path: Path | None) -> Path | LmxdError:
        """The directory of a profile: at ``path``, or of the profile's name in model_dir; or why it cannot be used."""
        named = self._model_dir / (Path(name) if path is None else path.expanduser())
        remedy = f"set models.{name}.path to a directory with config.json and *.safetensors"
        try:
            real = named.resolve(strict=True)
            there = real.is_dir()
        except (OSError, RuntimeError) as error:
            why = error.strerror if isinstance(error, OSError) else "its links lead in a circle"
            return LmxdError("model_file_missing", f"{named}: {why}", remedy)
        if not there:
            return LmxdError("model_file_missing", f"{named} is no directory", remedy)
        if not self._may_be(real):
            where = f"{named} is {real}, which is in no directory for models"
            return LmxdError("model_file_forbidden", where, f"put it there, or add {real.parent} to model_dirs")
        return elsewhere(real, self._may_be) or real

    def _may_be(self, real: Path) -> bool:
        return any(real.is_relative_to(directory) for directory in self._allowed) or self._is_owners(real)

    def _at(self, path: Path) -> Path:
        """The file at ``path``, absolute or below model_dir. All parts of a split model are checked.

        LmxdError ``model_file_missing`` if there is none, ``model_file_forbidden`` if it is elsewhere or no regular
        file.
        """
        named = self._model_dir / path.expanduser()
        known = self._known.get(named)
        if known is not None and known[1] == _identities(named):
            return known[0]
        try:
            found = named.parent.resolve(strict=True) / named.name
        except (OSError, RuntimeError):
            return named  # opening it will raise the error
        looked_at = [self._check(part, found) for part in parts(found)]
        self._known[named] = found, looked_at
        return found

    def _check(self, part: Path, path: Path) -> _Identity | None:
        """The identity of a file; None if there is none."""
        try:
            real = part.resolve(strict=True)
        except (OSError, RuntimeError):
            return None
        if not self._may_be(real):
            remedy = f"put it there, or add {real.parent} to model_dirs"
            where = f"{path} is {real}" if part == path else f"{part}, a part of {path.name}, is {real}"
            raise LmxdError("model_file_forbidden", f"{where}, which is in no directory for models", remedy)
        if not _is_regular(real):
            raise LmxdError("model_file_forbidden", f"{path} is not a regular file", "name a GGUF file")
        return _identity(real)

    def _is_owners(self, real: Path) -> bool:
        return self._owner is not None and real.stat().st_uid == self._owner


def find_model(model_dir: Path, name: str) -> Path:
    """The file for a profile without a path: NAME.gguf in ``model_dir``, else the one whose name begins with NAME.

    Raises LmxdError ``model_file_missing`` if there is none, or more than one.
    """
    remedy = f"set models.{name}.path"
    try:
        files = sorted(p for p in model_dir.iterdir() if p.suffix == ".gguf" and _is_whole(p))
    except OSError as error:
        raise LmxdError("model_file_missing", f"model_dir {model_dir}: {error.strerror}", remedy) from error
    exact = [p for p in files if p.stem.lower() == name.lower()]
    found = exact or [p for p in files if p.stem.lower().startswith(name.lower())]
    if len(found) == 1:
        return found[0]
    if not found:
        raise LmxdError("model_file_missing", f"there is no {name}.gguf in {model_dir}", f"{remedy}, or put it there")
    raise LmxdError("model_file_missing", f"{name} could be {', '.join(p.name for p in found)}", remedy)


def _is_whole(path: Path) -> bool:
    """Whether a file is a whole model or the first part of one."""
    part = part_number(path.name)
    return part is None or part[0] == 1


def _identity(path: Path) -> _Identity | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_regular(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return True  # opening it will raise the error


def _identities(path: Path) -> list[_Identity | None]:
    """The present identity of each part of a model. Files that have not changed are not checked again."""
    return [_identity(part) for part in parts(path)]


def parts(path: Path) -> list[Path]:
    """The files of a model: itself, or all parts of a split one."""
    part = part_number(path.name)
    if part is None or not 1 <= part[1] <= MAX_PARTS:
        return [path]
    return [Path(name) for name in part_names(str(path), part[1])]


def _resolved(directories: Iterable[Path]) -> Iterable[Path]:
    for directory in directories:
        with suppress(OSError, RuntimeError):
            yield directory.expanduser().resolve(strict=True)
