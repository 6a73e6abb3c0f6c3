"""The models of directories that are served without a profile (``models_from``), as profiles."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from lmxd.config.profile import Profile
from lmxd.config.schema import Config
from lmxd.models.found import Search

FileIdentity: TypeAlias = tuple[int, int]
"""Device and inode."""


def with_served(config: Config) -> tuple[Config, list[str]]:
    """(the configuration with a profile for each model of ``models_from``, what could not be looked at).

    A file that a profile names is not served a second time. A name that the configuration has is its own.
    """
    if not config.models_from:
        return config, []
    search = Search()
    for directory in config.models_from:
        search.look(directory)
    own = named_files(config)
    found = {
        model.name: Profile(path=model.path, aliases=_free(config, model.aliases), **model.beside)
        for model in search.models
        if file_at(config, model.path) not in own and config.named(model.name) not in config.models
    }
    unread = [f"models_from: {sentence}" for sentence in search.unread]
    return config.model_copy(update={"models": {**config.models, **found}}), unread


def _free(config: Config, aliases: Iterable[str]) -> tuple[str, ...]:
    return tuple(alias for alias in aliases if config.named(alias) not in config.models)


def named_files(config: Config) -> set[FileIdentity]:
    """The files that profiles name."""
    return {file for profile in config.models.values() if profile.path and (file := file_at(config, profile.path))}


def file_at(config: Config, path: Path) -> FileIdentity | None:
    """The identity of the file at a path of a profile; None if there is none."""
    with suppress(OSError, RuntimeError):
        found = (config.model_dir.expanduser() / path.expanduser()).stat()
        return found.st_dev, found.st_ino
    return None
