"""Shell scripts that start llama-server, as profiles. They are read, and never run."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from lmxd.engines.llama_cpp import flags
from lmxd.errors import LmxdError
from lmxd.files import read_text
from lmxd.migrate import command, container
from lmxd.migrate.command import StartCommand
from lmxd.migrate.entries import Entry, FoundModel
from lmxd.migrate.shell_words import commands, words_of
from lmxd.text import shortened

_LARGEST: Final = 256 * 2**10
"""Bytes of a file."""
_VARIABLE: Final = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)(?::?[-=]([^{}]*))?\}|([A-Za-z_][A-Za-z0-9_]*))")
_PWD: Final = re.compile(r"\$\(pwd\)|`pwd`")
_ASSIGNED: Final = re.compile(r"(?:(?:export|local|readonly|declare)[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_LONGEST: Final = 32 * 2**10
"""Characters of a command with its variables."""
_NAMES: Final = frozenset(("-a", "--alias", "-m", "--model", "-hf", "-hfr", "--hf-repo", "--name"))
_PLAIN: Final = frozenset(("set", "shopt", "fi", "done", "then", "else", "do", "esac", "trap", "wait", "true", ":"))
"""Words of the shell's own, that start nothing."""


def read(path: Path) -> FoundModel:
    """LmxdError ``config`` if it is no text, or starts no llama-server."""
    try:
        text = read_text(path, _LARGEST)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise LmxdError("config", f"{path}: {why}", "name a script that starts llama-server") from error
    found, base = FoundModel(), path.absolute().parent
    variables = {"PWD": str(base)}
    for number, line in _lines(text):
        if (match := _ASSIGNED.fullmatch(line)) and len(words_of(match[2])) <= 1:
            variables[match[1]] = filled(" ".join(words_of(match[2])), variables)
            found.report.unneed(f"line {number}, {match[1]}", "stands where it is used")
            continue
        for words in commands(filled(line, variables)):
            if words[0] == "cd" and len(words) == 2:
                base = base / Path(words[1]).expanduser()
                variables["PWD"] = str(base)
                found.report.unneed(f"line {number}, cd {words[1]}", "relative paths begin there")
            elif command.starts_server(words):
                outside = container.runs_container(words)  # and sees no variables of the script
                exported = {k: v for k, v in variables.items() if k.startswith("LLAMA_") and not outside}
                found.add(named(found, words, path.stem, StartCommand(words, exported, base)))
            elif words[0] not in _PLAIN:
                found.say(f"line {number}: starts no llama-server (it was {shortened(' '.join(words), 300)})")
    if not found.entries:
        raise LmxdError("config", f"{path}: starts no llama-server", "name a script that starts llama-server")
    return found.checked()


def named(found: FoundModel, words: Sequence[str], otherwise: str, started: StartCommand) -> Entry:
    """The profile of a command, under the names that its words say."""
    name, *aliases = names_of(words, otherwise)
    entry = command.entry(found, name, started)
    entry.settings["aliases"] = aliases
    return entry


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
        stem = PurePosixPath(file).stem
        return [stem.rpartition("-00001-of-")[0] or stem]
    return [said.get("-hf") or said.get("-hfr") or said.get("--hf-repo") or said.get("--name") or otherwise]


def filled(text: str, variables: Mapping[str, str]) -> str:
    """A text with its variables: those of the script, of the environment, or their defaults. Others stay."""

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[3]
        known = variables.get(name) or os.environ.get(name) or found[2]
        return found[0] if known is None else known

    made = _VARIABLE.sub(value, _PWD.sub("$PWD", text))
    return made if len(made) <= _LONGEST else text


def _lines(text: str) -> list[tuple[int, str]]:
    """(number, line), those that go on in the next one joined, without comments and empty ones."""
    found: list[tuple[int, str]] = []
    begun, first = "", 0
    for number, line in enumerate(text.split("\n"), 1):
        if not begun:
            first = number
            if line.lstrip().startswith("#"):
                continue
        begun += line.removesuffix("\\") if line.endswith("\\") else line
        if line.endswith("\\"):
            begun += " "
            continue
        if begun.strip():
            found.append((first, begun.strip()))
        begun = ""
    return [*found, (first, begun.strip())] if begun.strip() else found
