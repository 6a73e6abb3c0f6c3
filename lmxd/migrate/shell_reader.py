"""The servers that the text of a shell would start, by its variables and directories. It is read, and never run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lmxd.migrate import container, programs
from lmxd.migrate.environment import read_variables
from lmxd.migrate.other_servers import other_server
from lmxd.migrate.shell_variables import ShellVariables, assignment
from lmxd.migrate.shell_words import ShellCommand, commands
from lmxd.migrate.source import reason
from lmxd.text import shortened

_KEYWORDS: Final = frozenset("if then elif else while until do ! { time".split())
"""Words before a command."""
_SETTING: Final = frozenset("export declare local readonly typeset".split())
_PLAIN: Final = frozenset(
    """fi done esac } ;; set shopt trap wait true false : echo printf sleep exit return break continue shift [ [[ test
    for case in select function read unset umask disown local clear""".split()
)
"""Words of the shell's own, that start nothing."""
_SHOWN: Final = 120
"""Characters of a command that is said."""
_START: Final = re.compile(r"(?m)^[ \t]*ExecStart=[-@:+!]*")


@dataclass(frozen=True, slots=True)
class Started:
    """A command that starts a server: its words, the variables that it is given, and the directory that it runs in."""

    words: list[str]
    environment: dict[str, str]
    base: Path
    placed: bool
    """Whether the text says the directory itself."""


class ShellReader:
    """The text of a shell. ``left`` is told what could not be carried over, ``unneed`` what needs no counterpart."""

    def __init__(
        self,
        base: Path,
        left: Callable[[str], None],
        unneed: Callable[[str, str], None],
        values: Mapping[str, str],
        script: str | None = None,
    ) -> None:
        self._left, self._unneed = left, unneed
        self._variables = ShellVariables(base, values, script)
        self._exported: set[str] = set()
        self._set: set[str] = set()
        self._export_all = False
        self._placed = False

    def started(self, text: str) -> Iterator[Started]:
        """The servers that it starts. All other commands are said."""
        for command in commands(text):
            yield from self._of(command)
            for document in command.documents:
                yield from self._written(command.line, document)

    def _of(self, command: ShellCommand) -> Iterator[Started]:
        _drop_keywords(command)
        if command.words and not self._variables_of(command):
            yield from self._command(command)

    def _command(self, command: ShellCommand) -> Iterator[Started]:
        words = [word for raw in command.words for word in self._variables.words(raw)]
        inner = programs.unwrapped(words)
        if command.label or not words:
            self._unneed(f"line {command.line}, {self._shown(command)}", "starts nothing")
        elif self._starts(inner.argv):
            yield self._now(words)
        elif words[0] == "cd" and len(words) == 2 and "$" not in words[1]:
            self._placed = True
            self._variables.go_to(words[1])
            self._unneed(f"line {command.line}, cd {words[1]}", "relative paths begin there")
        elif words[0] in ("source", ".") and len(words) > 1:
            self._source(command, words[1])
        elif words[0] in _PLAIN or words[0].startswith("(("):
            self._unneed(f"line {command.line}, {self._shown(command)}", "starts nothing")
        else:
            self._left(f"line {command.line}: starts no llama-server (it was {self._shown(command)})")

    def _now(self, words: list[str]) -> Started:
        exported = {name: value for name in self._exported if (value := self._variables.value(name)) is not None}
        return Started(words, exported, self._variables.base, self._placed)

    def _written(self, line: int, document: str) -> Iterator[Started]:
        """The servers that a script or a unit would start that is written here, to be run elsewhere."""
        inner = ShellReader(self._variables.base, _unsaid, _unsaid, {})
        inner._variables = self._variables.copy()
        for command in commands(_START.sub("", document.replace("\\\\\n", "\\\n"))):
            for started in inner._of(command):
                words = shortened(" ".join(started.words), _SHOWN)
                self._left(f"line {line}: {words}: is only written there, to be run elsewhere")
                yield started

    def _starts(self, argv: list[str]) -> bool:
        if (line := programs.line_for_shell(argv)) is not None:
            return any(self._starts(programs.unwrapped(_plain(each)).argv) for each in commands(line))
        return programs.server_arguments(argv) is not None or other_server(argv) is not None or container.serves(argv)

    def _variables_of(self, command: ShellCommand) -> bool:
        """Take in what a command sets, if that is all that it does."""
        words = command.words
        if words[0] == "set" and words[1:2] in (["-a"], ["+a"], ["-o"], ["+o"]):
            self._export_all = words[1] == "-a" or words[1:] == ["-o", "allexport"] or (
                self._export_all and words[1] not in ("+a", "+o"))  # fmt: skip
            return False
        setting = words[0] in _SETTING
        found = [assignment(word) for word in words[setting:]]
        if not setting and not all(found):
            return False
        exports = self._export_all or (setting and (words[0] == "export" or "-x" in words[1:2]))
        for word, set_here in zip(words[setting:], found, strict=True):
            if set_here is not None:
                self._assign(command.line, set_here)
            name = word if set_here is None else set_here[0]
            if exports and not name.startswith("-"):
                self._exported.add(name)
            if set_here is None:
                self._unneed(f"line {command.line}, {words[0]} {word}", "is of the shell")
        return True

    def _assign(self, line: int, set_here: tuple[str, bool, str]) -> None:
        """Set a variable, unless it has a value that is known, and its new one is not."""
        name, more, raw = set_here
        variables = self._variables
        before = variables.value(name) if name in self._set else None
        if raw.startswith("(") and raw.endswith(")"):
            new = [word for each in commands(raw[1:-1]) for inner in each.words for word in variables.words(inner)]
        else:
            new = [variables.text(raw)]
        if before and not more and any("$" in word for word in new) and "$" not in before:
            self._left(f"line {line}, {name}: stays {shortened(before, _SHOWN)} (it was {shortened(raw, _SHOWN)})")
            return
        if more and not raw.startswith("(") and before is not None:
            new, more = [before + new[0]], False
        variables.assign(name, new, more=more)
        self._set.add(name)
        was = f", and was {shortened(before, _SHOWN)} above" if before not in (None, variables.value(name)) else ""
        self._unneed(f"line {line}, {name}", f"stands where it is used{was}")

    def _source(self, command: ShellCommand, name: str) -> None:
        """Take in the variables of a file that is there, and has nothing else."""
        path = self._variables.base / name
        try:
            found = read_variables(path)
        except (OSError, ValueError) as error:
            self._left(f"line {command.line}: {name} is not read: {reason(error)}")
            return
        for key, value in found.items():
            self._variables.assign(key, [value])
            self._set.add(key)
            self._exported |= {key} if self._export_all else set()
        self._unneed(f"line {command.line}, {name}", f"its variables are read: {', '.join(found) or 'none'}")

    def _shown(self, command: ShellCommand) -> str:
        return shortened(" ".join(str(command).split()), _SHOWN)


def _unsaid(*words: str) -> None:
    """Say nothing of what is not the text's own."""


def _drop_keywords(command: ShellCommand) -> None:
    while command.words and command.words[0] in _KEYWORDS:
        command.words.pop(0)


def _plain(command: ShellCommand) -> list[str]:
    _drop_keywords(command)
    return [word.strip("\"'") for word in command.words]
