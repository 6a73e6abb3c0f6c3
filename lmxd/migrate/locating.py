"""The files that a command names, as they are called on this host: of a container, of Windows, or relative."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lmxd.migrate import programs
from lmxd.migrate.container import Container
from lmxd.migrate.entries import Entry
from lmxd.migrate.report import About

_FILES: Final = ("path", "mmproj", "chat_template_file", "grammar_file")
"""Keys whose value is a file. Of ``draft`` and ``lora`` it is a path within."""


@dataclass(frozen=True, slots=True)
class PathContext:
    """Where the paths of a command begin, and whether that is said rather than guessed."""

    base: Path
    placed: bool
    container: Container | None


def locate(made: Entry, place: PathContext, left: About) -> None:
    """Make the paths of a profile the host's, and whole where their directory is known."""

    def moved(key: str, said: str) -> str:
        return _on_host(made, key, said, place, left)

    settings = made.settings
    for key in _FILES:
        if settings.get(key):
            settings[key] = moved(key, settings[key])
    if draft := settings.get("draft"):
        settings["draft"] = draft | {"path": moved("draft", draft["path"])}
    if adapters := settings.get("lora"):
        settings["lora"] = [
            moved("lora", x) if isinstance(x, str) else x | {"path": moved("lora", x["path"])} for x in adapters
        ]


def _on_host(made: Entry, key: str, said: str, place: PathContext, left: About) -> str:
    if "${env." in said:
        return said
    if place.container is not None and not os.path.isfile(said):
        outside = place.container.on_host(said, place.base)
        if outside is None:
            left(f"{key}: {said} is inside of the container {place.container.image}: name the host's file")
            return said
        left.unneed(f"{key} {said}", f"is {outside} on the host")
        said = outside
    return _whole(made, key, said, place, left)


def _whole(made: Entry, key: str, said: str, place: PathContext, left: About) -> str:
    """A path from its root; it stays as it is, and its entry open, where nobody knows what it means here."""
    if programs.of_windows(said):
        mounted = Path("/mnt", said[0].lower(), *said[3:].replace("\\", "/").split("/"))  # as WSL has it
        if mounted.is_file():
            return str(mounted)
        left(f"{key}: {said} is of Windows: name the file here, and take the comment signs away")
        made.open = True
        return said
    if "$" in said:
        left(f"{key}: {said} has what is not known here: write it out, and take the comment signs away")
        made.open = True
        return said
    path = Path(said).expanduser() if said.startswith("~/") else Path(said)
    if path.is_absolute() or place.placed:
        return os.path.normpath(place.base / path)
    near = [base / path for base in (place.base, Path.cwd()) if os.path.exists(base / path)]
    if not near:
        left(f"{key}: {said} is relative, and is looked up in model_dir here: write the whole path if that differs")
    return str(near[0].absolute() if near else path)
