"""The presets of llama-server's router (models.ini) as profiles."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from lmxd.errors import LmxdError
from lmxd.migrate import command, environment
from lmxd.migrate.command import StartCommand
from lmxd.migrate.entries import MOST, FoundModel
from lmxd.migrate.report import About
from lmxd.migrate.source import text_of
from lmxd.text import shortened

_ALL: Final = "*"
_TRUE: Final = frozenset(("true", "on", "1", "yes", "enabled"))
_REMEDY: Final = "name the file given as --models-preset"
_LINES: Final = 20_000
_MOST: Final = 20_000
"""Options of all models together. Those of [*] are in each."""
_OPTION: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*=[ \t]*([^;#]*)([;#].*)?")
_EMPTY: Final = re.compile(r"[ \t]*(?:[;#].*)?")

Sections = dict[str, dict[str, str]]


def read(path: Path) -> FoundModel:
    """LmxdError ``config`` if it is no such file."""
    found, room = FoundModel(), _MOST
    sections = _sections(path, found)
    common = sections.pop(_ALL, {})
    for name, own in sections.items():
        left, options = found.about(name), common | own
        room -= len(options)
        if found.full or room < 0:
            left(f"and what follows is left out: {MOST} models, or {_MOST} options, are the most")
            break
        _model(found, name, options, path.absolute().parent, left)
    if common and not sections:
        for key, value in common.items():
            found.say(f"[*] {key}: there is no model for it (it was {value})")
    return found.checked()


def _model(found: FoundModel, name: str, options: dict[str, str], base: Path, left: About) -> None:
    preload = options.pop("load-on-startup", None)
    stop = options.pop("stop-timeout", None)
    aliases = [alias.strip() for key in ("alias", "a", "LLAMA_ARG_ALIAS") for alias in options.pop(key, "").split(",")]
    entry = command.entry(found, name, StartCommand(["llama-server", *_argv(options, left)], {}, base), alone=False)
    if preload is not None and preload.lower() in _TRUE:
        entry.settings["preload"] = True
    elif preload is not None:
        left.unneed(f"load-on-startup {preload}", "models start when they are asked for")
    if stop is not None and stop.isdecimal() and int(stop):
        entry.settings["stop_timeout"] = int(stop[:9])
    elif stop is not None:
        left(f"stop-timeout: {stop} is no number of seconds")
    entry.settings["aliases"] = [alias for alias in aliases if alias]
    found.add(entry)


def _sections(path: Path, found: FoundModel) -> Sections:
    """The sections as llama-server reads them: a comment ends a value, and the last of two of a name counts."""
    lines = text_of(path, _REMEDY).splitlines()
    if len(lines) > _LINES:
        raise LmxdError("config", f"{path}: has more than {_LINES} lines", "import a part of it")
    sections: Sections = {}
    section = ""
    for number, line in enumerate(lines, 1):
        if name := _section(line.strip()):
            section = name
            for key, value in sections.pop(section, {}).items():
                found.say(f"[{section}] {key}: the section begins anew in line {number} (it was {value})")
            sections[section] = {}
        elif match := _OPTION.fullmatch(line.strip()):
            key, value, comment = match[1], match[2].rstrip(), match[3]
            if comment and match[2] == value and value:
                found.say(f"[{section}] {key}: to llama-server, too, the value ends before {shortened(comment, 80)}")
            if section and key in sections[section]:
                found.say(f"[{section}] {key}: is given twice, and the last counts (it was {sections[section][key]})")
            if section:
                sections[section][key] = value
            elif key != "version":
                found.say(f"{key}: stands before all sections, and is for no model (it was {value})")
            else:
                found.report.unneed(f"version {value}", "of the file's form")
        elif not _EMPTY.fullmatch(line):
            why = f"line {number} is neither [a section] nor key = value: {shortened(line.strip(), 80)}"
            raise LmxdError("config", f"{path}: {why}", _REMEDY)
    return sections


def _section(line: str) -> str | None:
    """The name of the section that a line begins; None if it begins none."""
    name, closed, rest = line.partition("]")
    return name[1:].strip() or None if closed and line.startswith("[") and _EMPTY.fullmatch(rest) else None


def _argv(options: dict[str, str], left: About) -> list[str]:
    """Keys are flags without their dashes, or the names of environment variables."""
    argv: list[str] = []
    for key, value in options.items():
        flag = environment.flag_of(key) or environment.flag_named(key)
        if own := environment.words_of(flag, value):
            argv += own
        else:
            left.unneed(f"{key} {value}", "it is off by itself")
    return argv
