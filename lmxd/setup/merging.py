"""Models that were found are added to a configuration that is there."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from lmxd.catalog.served import file_at, named_files, with_served
from lmxd.config.adding import with_profiles, with_setting
from lmxd.config.file import parse
from lmxd.config.schema import Config
from lmxd.migrate.entries import Entry, FoundModel


def merged(text: str, source: str, found: FoundModel) -> tuple[str, list[str]]:
    """(a configuration with a profile for each model found that it does not serve yet, the names of these).

    LmxdError ``config`` if it cannot be used, or a profile must be added by hand.
    """
    config = parse(text, source)
    new = _unserved(config, found.entries)
    if not new:
        return text, []
    text = with_profiles(
        text,
        {name: entry.settings for name, entry in new.items()},
        {name: entry.comment for name, entry in new.items()},
    )
    return _with_directories(text, config, found), list(new)


def _unserved(config: Config, entries: list[Entry]) -> dict[str, Entry]:
    """The entries whose files no profile names, each by a name that is free."""
    whole, _ = with_served(config)
    files, taken = named_files(whole), {whole.named(name) for name in whole.models}
    new: dict[str, Entry] = {}
    for entry in entries:
        if entry.open or file_at(whole, Path(entry.settings["path"])) in files:
            continue
        names = (entry.name if number == 1 else f"{entry.name}-{number}" for number in count(1))
        new[next(name for name in names if whole.named(name) not in taken | new.keys())] = entry
    return new


def _with_directories(text: str, config: Config, found: FoundModel) -> str:
    """The directories that parts of split models are in, where profiles do not name them."""
    wanted = [
        directory for directory in found.settings.get("model_dirs", []) if Path(directory) not in config.model_dirs
    ]
    if not wanted:
        return text
    if not config.model_dirs:
        return with_setting(text, "model_dirs", wanted)
    found.say(f"model_dirs: add {', '.join(wanted)}, where parts of a split model are")
    return text
