"""Model files found in directories: each model once, with all of its parts and its projector, by a name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import Any, Final

from lmxd.config.names import fitting
from lmxd.gguf.split import MAX_PARTS, part_names, part_number
from lmxd.models.layouts import flat_repositories, name_of, newest_first, repository_directory
from lmxd.models.ollama_store import blobs, is_store, stored_models
from lmxd.models.pairing import MOST_PROJECTORS, core, is_whole_file, part_facts, projectors_above, projectors_of
from lmxd.models.quants import is_model_file, is_partial, stem_of
from lmxd.models.roles import FileFacts, Role

_DEEPEST: Final = 12
"""Levels of directories that are looked through: the caches of hubs have six."""
_CALLED: Final = {
    Role.PROJECTOR: "a projector, and it is not clear of which model here",
    Role.ADAPTER: "an adapter (LoRA)",
    Role.DRAFT: "a draft model, by its name",
}
_MOST_ENTRIES: Final = 200_000
_MOST_MODELS: Final = 2000
"""Entries of directories that are looked at, and models that are found: as many as a configuration can hold."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelOnDisk:
    """A model on disk. ``path``: its file, or the first of ``parts``; ``projector``: what reads pictures for it.

    ``answers``: the key of a profile for one that writes no text.
    """

    name: str
    path: Path
    parts: tuple[Path, ...]
    projector: Path | None = None
    adapters: tuple[Path, ...] = ()
    answers: str | None = None
    missing: int = 0
    """Parts that are not there."""
    aliases: tuple[str, ...] = ()

    @property
    def beside(self) -> dict[str, Any]:
        """The settings of its profile that follow from its header, and from the files beside it."""
        found: dict[str, Any] = {"mmproj": str(openable(self.projector))} if self.projector else {}
        found |= {"lora": [str(openable(path)) for path in self.adapters]} if self.adapters else {}
        return found | ({self.answers: True} if self.answers else {})

    @property
    def settings(self) -> dict[str, Any]:
        """All settings of its profile, as they are written."""
        return {"path": str(self.openable), **self.beside}

    @property
    def words(self) -> tuple[str, ...]:
        """The same as words of llama-server."""
        adapters = (word for path in self.adapters for word in ("--lora", str(path)))
        return (*beside_words(self.parts[0], self.projector), *adapters)

    @property
    def size(self) -> int:
        """Bytes of its parts; 0 of those that cannot be looked at."""
        return sum(_size(part) for part in self.parts)

    @property
    def elsewhere(self) -> list[Path]:
        """The files of parts that are links out of its directory, or out of its repository."""
        return [part.resolve() for part in self.parts if openable(part) != part]

    @property
    def openable(self) -> Path:
        """The path for a profile: the file itself of a model that is one link to elsewhere, which lmxd does not follow.

        Of several parts the directories of those that are elsewhere have to be in ``model_dirs``.
        """
        return openable(self.path) if len(self.parts) == 1 else self.path


def beside_words(path: Path, projector: Path | None) -> tuple[str, ...]:
    """llama-server's words for a model's projector, and for the kind of its answers."""
    answers = part_facts(path).answers
    return (*(("--mmproj", str(projector)) if projector else ()), *((f"--{answers}",) if answers else ()))


def openable(path: Path) -> Path:
    """The path for a profile: the file itself of a link out of its directory or repository, which is not followed."""
    home, file = (repository_directory(path) or path.parent).resolve(), path.resolve()
    return path if file.is_relative_to(home) else file


@dataclass(slots=True)
class Search:
    """The search of directories, what it found, and what it could not look at."""

    models: list[ModelOnDisk] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    """A sentence for each directory that could not be read, or not to its end."""
    told: Callable[[Path], None] = lambda _: None
    """Is told of each directory and file that it comes to."""
    _seen: set[tuple[int, int]] = field(default_factory=set)
    """Directories by device and inode: a link may lead back."""
    _files: dict[tuple[int, int, tuple[Path, ...]], Path] = field(default_factory=dict)
    """Files that models are made of, likewise, and their adapters: several links to one are one model."""
    _unpaired: set[Path] = field(default_factory=set)
    """Projectors of no model that was found yet."""
    _names: set[str] = field(default_factory=set)
    _entries: int = 0

    def look(self, root: Path) -> None:
        """Look through a directory, or at one file, and all directories that it has or has links to."""
        root = Path(os.path.abspath(root.expanduser()))
        if root.is_file():
            names = os.listdir(root.parent)
            files = sorted({root, *filter(is_whole_file, (root.parent / name for name in names))})
            self._group(root.parent, root.parent, files, flat_repositories(names), only=root)
        else:
            self._through(root, root, _DEEPEST)
        for path in sorted(self._unpaired):
            self._say_beside(path, Role.PROJECTOR)
        self._unpaired.clear()

    def _through(self, root: Path, directory: Path, levels: int) -> None:
        self.told(directory)
        try:
            with os.scandir(directory) as entries:
                listed = sorted(self._counted(directory, entries), key=lambda entry: entry.name)
            found = directory.stat()
        except OSError as error:
            self.unread.append(f"{directory}: {error.strerror}")
            return
        if (found.st_dev, found.st_ino) in self._seen:
            return
        self._seen.add((found.st_dev, found.st_ino))
        files, directories = [], []
        for entry in listed:
            try:
                if is_model_file(entry.name) and self._is_whole(entry):
                    files.append(Path(entry))
                elif entry.is_dir() and not entry.name.startswith("."):
                    directories.append(Path(entry))
            except OSError as error:
                self.unread.append(f"{entry.path}: {error.strerror}")
        self._group(root, directory, files, flat_repositories(entry.name for entry in listed))
        if is_store(directory):
            self._store(directory)
        for each in newest_first(directories):
            if levels:
                self._through(root, each, levels - 1)
            else:
                self.unread.append(f"{each}: is too deep: name it, or a directory nearer to it")

    def _is_whole(self, entry: os.DirEntry[str]) -> bool:
        """Whether a file called as a model's is one; links that lead nowhere, and halves of files, are said."""
        if entry.is_symlink() and not os.path.exists(entry.path):
            self.unread.append(f"{entry.path}: is a link that leads nowhere")
        elif entry.is_file() and is_partial(entry.name):
            self.unread.append(f"{entry.path}: is not fetched to its end, as its name says")
        else:
            return entry.is_file()
        return False

    def _store(self, root: Path) -> None:
        """The models of a store of ollama's."""
        names: dict[tuple[tuple[Path, ...], ...], list[str]] = {}
        for stored in stored_models(root, self.unread.append):
            model, projector, adapters = (
                blobs(root, stored, kind, self.unread.append) for kind in ("model", "projector", "adapter")
            )
            if model:
                names.setdefault((model, projector, adapters), []).extend((stored.name, *stored.aliases))
        for (model, projector, adapters), (name, *aliases) in names.items():
            beside = projector[-1] if projector else None
            self._add(name, model[-1:], beside, aliases=tuple(aliases), adapters=adapters)

    def _counted(self, directory: Path, entries: Iterable[os.DirEntry[str]]) -> Iterator[os.DirEntry[str]]:
        for entry in entries:
            if self._entries == _MOST_ENTRIES:
                self.unread.append(
                    f"{directory}: is not looked at to its end, as there are {_MOST_ENTRIES} files already"
                )
                return
            self._entries += 1
            yield entry

    def _group(
        self,
        root: Path,
        directory: Path,
        files: Sequence[Path],
        repositories: Mapping[str, str],
        *,
        only: Path | None = None,
    ) -> None:
        """The models among the files of one directory; of one file alone if ``only`` that is meant."""
        facts = {path: self._facts(path) for path in files}
        there = {path for path, fact in facts.items() if fact.role is Role.MODEL}
        projectors = [path for path, fact in facts.items() if fact.role is Role.PROJECTOR]
        self._unpaired |= {path for path in projectors if only in (None, path)}
        beside = projectors or (projectors_above(directory) if there and directory != root else [])
        if len(beside) > MOST_PROJECTORS:
            self.unread.append(f"{directory}: has {len(beside)} mmproj files: name one in each profile")
            self._unpaired -= set(beside)
            beside = []
        for path in files:
            if path not in there:
                if path not in projectors and only in (None, path):
                    self._say_beside(path, facts[path].role)
                continue
            part = part_number(path.name)
            if part is None or not 1 <= part[1] <= MAX_PARTS:
                parts = [path]
            elif path != next(p for p in map(Path, part_names(str(path), part[1])) if p in there):
                continue  # the first that is there stands for all
            else:
                parts = [Path(name) for name in part_names(str(path), part[1])]
            if only is not None and only not in parts:
                continue
            kept = tuple(p for p in parts if p in there)
            name, missing = name_of(root, path, repositories), len(parts) - len(kept)
            self._add(name, kept, self._projector(name, path, sorted(there), beside), missing, path=parts[0])

    def _facts(self, path: Path) -> FileFacts:
        self.told(path)
        return part_facts(path)

    def _projector(self, name: str, path: Path, models: Sequence[Path], beside: Sequence[Path]) -> Path | None:
        """The projector of a model. Where there may be several, or it is not clear whose one is, that is said."""
        found = projectors_of(path, models, beside)
        self._unpaired -= {each for each in beside if core(each) in map(core, found)}
        if len(found) > 1:
            self.unread.append(f"{name}: its mmproj may be {' or '.join(map(str, found))}: name one in its profile")
        return found[0] if len(found) == 1 else None

    def _say_beside(self, path: Path, role: Role) -> None:
        """Say of a file that is no model where it belongs."""
        self.unread.append(f"{path}: is {_CALLED[role]}: name it by the key {role.value} of the model that it is for")

    def _add(
        self,
        name: str,
        parts: tuple[Path, ...],
        projector: Path | None = None,
        missing: int = 0,
        *,
        path: Path | None = None,
        aliases: tuple[str, ...] = (),
        adapters: tuple[Path, ...] = (),
    ) -> None:
        """Take a model in, unless it is there already by another link. ``path``: its first part, if that is missing."""
        path = path or parts[0]
        try:
            found = parts[0].stat()
        except OSError as error:
            self.unread.append(f"{path}: {error.strerror}")
            return
        if self._files.setdefault((found.st_dev, found.st_ino, adapters), path) != path:
            return
        if len(self.models) == _MOST_MODELS:
            self.unread.append(f"{path}: is left out, for there are {_MOST_MODELS} models already")
            return
        own = self._own_name(fitting(name), path)
        others = tuple(alias for alias in aliases if alias not in self._names)
        self._names.update(others)
        self.models.append(
            ModelOnDisk(
                name=own,
                path=path,
                parts=parts,
                projector=projector,
                adapters=adapters,
                answers=part_facts(parts[0]).answers,
                missing=missing,
                aliases=others,
            )
        )

    def _own_name(self, name: str, path: Path) -> str:
        """A name that no other has: with the file's own in the place of the quantization, if that is another's."""
        longer = fitting(f"{name.partition(':')[0]}:{stem_of(path.name)}")
        numbered = (f"{longer[:120]}-{number}" for number in count(2))
        own = next(each for each in chain((name, longer), numbered) if each not in self._names)
        self._names.add(own)
        return own


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
