"""Shell scripts that start llama-server, as profiles. They are read, and never run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lmxd.engines.llama_cpp import flags
from lmxd.errors import LmxdError
from lmxd.migrate import command, programs
from lmxd.migrate.command import StartCommand
from lmxd.migrate.entries import MOST, Entry, FoundModel
from lmxd.migrate.other_flags import said_by
from lmxd.migrate.report import Report
from lmxd.migrate.shell_reader import ShellReader
from lmxd.migrate.source import text_of

_REMEDY: Final = "name a script that starts llama-server"
_NAMES: Final = frozenset(("-a", "--alias", "-m", "--model", "-hf", "-hfr", "--hf-repo"))


def read(path: Path) -> FoundModel:
    """LmxdError ``config`` if it is no text, or starts no llama-server."""
    text = text_of(path, _REMEDY)
    found, script = FoundModel(), path.absolute()
    reader = ShellReader(script.parent, found.say, found.report.unneed, {}, str(script))
    for started in reader.started(text):
        if found.full:
            found.say(f"what follows the first {MOST} is left out")
            break
        start = StartCommand(started.words, started.environment, started.base, placed=started.placed)
        found.add(named(found, path.stem, start))
    if not found.entries:
        raise LmxdError("config", f"{path}: starts no llama-server", _REMEDY)
    return found.checked()


def named(found: FoundModel, otherwise: str, started: StartCommand) -> Entry:
    """The profile of a command, under the names that its words say."""
    seen = started.resolved(Report().about(otherwise))
    inside = seen.container.name if seen.container is not None else ""
    name, *aliases = names_for(seen, inside or otherwise)
    entry = command.entry(found, name, started)
    entry.settings["aliases"] = aliases
    return entry


def names_for(started: StartCommand, otherwise: str) -> list[str]:
    """The names of the model that a command serves."""
    if (other := started.other_server()) is None:
        return names_of(started.said, otherwise)
    said = said_by(other, Report().about(otherwise))
    stem = programs.name_of(str(said.settings.get("path", "")).rstrip("/"))
    return said.names or [stem or otherwise]


def names_of(words: Sequence[str], otherwise: str) -> list[str]:
    """The names of a model by its command line: its aliases, else by its file or repository."""
    said: dict[str, str] = {}
    for flag, value in zip(words, [*words[1:], ""], strict=False):
        head, joined, own = flag.partition("=")
        if head in _NAMES:
            said[flags.KEYS.get(head, head)] = own if joined else value
    if alias := said.get("-a") or said.get("--alias"):
        return [name.strip() for name in alias.split(",")]
    if file := said.get("path"):
        stem = programs.name_of(file).removesuffix(".gguf")
        return [stem.rpartition("-00001-of-")[0] or stem]
    return [said.get("-hf") or said.get("-hfr") or said.get("--hf-repo") or otherwise]
