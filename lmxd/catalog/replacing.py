"""Files of other models: one that is fetched does not take their place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from lmxd.catalog.served import file_at, with_served
from lmxd.config.profile import Profile
from lmxd.config.schema import Config
from lmxd.errors import LmxdError
from lmxd.gguf.split import MAX_PARTS, part_names, part_number


def require_no_others(config: Config, name: str, paths: Iterable[Path]) -> None:
    """LmxdError ``config`` if one of the files is there, and is a file of another model than ``name``."""
    known, _ = with_served(config)
    others = {
        file: other
        for other, profile in known.models.items()
        if other != name
        for path in _files(other, profile)
        if (file := file_at(config, path)) is not None
    }
    for path in paths:
        if (file := file_at(config, path)) in others and file is not None:
            what = f"{path} is a file of {others[file]}, whose place it would take"
            raise LmxdError("config", what, "name another directory with --to, or move that model first")


def _files(name: str, profile: Profile) -> Iterator[Path]:
    """The files of a profile, all parts of each."""
    for path in (profile.path or Path(f"{name}.gguf"), *profile.files):
        number = part_number(path.name)
        parts = [path.name] if number is None or number[1] > MAX_PARTS else part_names(path.name, number[1])
        yield from (path.with_name(part) for part in parts)
