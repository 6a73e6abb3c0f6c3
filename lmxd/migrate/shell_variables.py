"""The variables of a shell, and the words that come of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from fnmatch import translate
from pathlib import Path
from typing import Final

from lmxd.migrate.shell_words import closed_at, commands

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9@*#?!$-]")
_PARAMETER: Final = re.compile(rf"({_NAME.pattern})(?:\[([^\]]*)\])?(:?[-=?+]|##?|%%?|)(.*)", re.DOTALL)
_ASSIGNED: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]{0,200})(\+?)=")
_PLAIN: Final = re.compile(r"[^\\'\"$`~]+")
_LONGEST: Final = 32 * 2**10
"""Characters of a value."""
_LONGEST_PATH: Final = 4096
"""Characters of a directory: no system takes more."""
_TRIMMED: Final = 260
_PATTERN: Final = 32
"""Characters of a value from which a pattern is taken, and of the pattern."""
_DEEPEST: Final = 10
"""Levels of substitutions in each other."""


class ShellVariables:
    """Variables by name: a list of words each. Those that nobody set are the environment's, or stay as they are."""

    def __init__(self, base: Path, values: Mapping[str, str], script: str | None = None) -> None:
        self.base = base
        self._values = {name: [value] for name, value in values.items()}
        if script is not None:
            self._values |= {"0": [script], "BASH_SOURCE": [script]}
        self._levels = _DEEPEST

    def copy(self) -> ShellVariables:
        """The same variables, which may become others."""
        made = ShellVariables(self.base, {})
        made._values = dict(self._values)
        return made

    def value(self, name: str) -> str | None:
        """The value of a variable; of a list its words."""
        if name == "PWD":
            return str(self.base)
        found = self._values.get(name)
        return os.environ.get(name) if found is None else " ".join(found)

    def go_to(self, directory: str) -> None:
        """Have relative paths begin elsewhere, as ``cd`` does."""
        there = os.path.normpath(self.base / directory)
        if len(there) <= _LONGEST_PATH:
            self.base = Path(there)

    def assign(self, name: str, words: list[str], *, more: bool = False) -> None:
        """Set a variable. ``more``: to what it has already."""
        before = self._values.get(name, []) if more else []
        if sum(map(len, [*before, *words])) <= _LONGEST:
            self._values[name] = [*before, *words]

    def words(self, raw: str) -> list[str]:
        """The words that a written one becomes: several, if it is a list or has spaces, and none if it is empty."""
        found: list[str] = []
        current: str | None = None
        for parts in self._parts(raw):
            for number, part in enumerate(parts):
                if number and current is not None:
                    found.append(current)
                    current = None
                current = (current or "") + part
        found += [] if current is None else [current]
        return found if sum(map(len, found)) <= _LONGEST else [raw]

    def text(self, raw: str) -> str:
        """The text that a written word becomes, as where a variable is set."""
        made = "".join(" ".join(parts) for parts in self._parts(raw, quoted=True))
        return made if len(made) <= _LONGEST else raw

    def filled(self, text: str) -> str:
        """A text in which quotes are characters as any other, with its variables. Others stay."""
        found, at = [], 0
        while (place := text.find("$", at)) >= 0:
            parts, end = self._dollar(text, place)
            found += [text[at:place], text[place:end] if parts is None else " ".join(parts)]
            at = end
        made = "".join([*found, text[at:]])
        return made if len(made) <= _LONGEST else text

    def filled_doubled(self, text: str) -> str:
        """The same where $$ is a dollar sign, as in units of systemd and files of compose."""
        return self.filled(text.replace("$$", "\0")).replace("\0", "$")

    def _parts(self, raw: str, *, quoted: bool = False, inside: bool = False) -> Iterator[list[str]]:
        """The pieces of a written word; a piece of several strings ends words. ``inside``: of double quotes."""
        at = 0
        while at < len(raw):
            if plain := _PLAIN.match(raw, at):
                yield [plain[0]]
                at = plain.end()
                continue
            c, end = raw[at], closed_at(raw, at)
            if c == "\\" and (not inside or raw[at + 1 : at + 2] in ("$", "`", '"', "\\", "\n")):
                yield [raw[at + 1 : end].replace("\n", "")]
            elif c == "'" and not inside:
                yield [raw[at + 1 : end].removesuffix("'")]
            elif raw.startswith("$'", at) and not inside:
                yield [raw[at + 2 : end].removesuffix("'")]
            elif c == '"' and not inside:
                yield from [[""], *self._parts(raw[at + 1 : end - 1], inside=True)]
            elif c in "$`":
                parts, end = self._dollar(raw, at)
                yield [raw[at:end]] if parts is None else parts if quoted or inside else _split(parts)
            elif c == "~" and at == 0 and not inside and raw[1:2] in ("", "/"):
                yield [str(Path.home())]
            else:
                end = at + 1
                yield [c]
            at = end

    def _dollar(self, text: str, at: int) -> tuple[list[str] | None, int]:
        """(the words of what is written at a place; None if nobody knows them; its end)."""
        end = closed_at(text, at)
        if text[at] == "`":
            return self._substituted(text[at + 1 : end - 1]), end
        if text.startswith("$((", at):
            return None, end
        if text.startswith("$(", at):
            return self._substituted(text[at + 2 : end - 1]), end
        if text.startswith("${", at):
            return self._parameter(text[at + 2 : end - 1]), end
        if match := _NAME.match(text, at + 1):
            return self._known(match[0], None), match.end()
        return None, at + 1

    def _known(self, name: str, index: str | None) -> list[str] | None:
        found = self._values.get(name)
        if found is None or name == "PWD":
            value = self.value(name)
            return None if value is None else [value]
        if index is None or index in "@*":
            return found if index else found[:1]
        return found[int(index) : int(index) + 1] or None if index.isdigit() and len(index) < 6 else None

    def _parameter(self, written: str) -> list[str] | None:
        """``${NAME}`` with what may follow the name."""
        match = _PARAMETER.fullmatch(written)
        if match is None or self._levels == 0:
            return None
        name, index, operator, word = match.groups()
        found = self._known(name, index)
        empty = found is None or (operator.startswith(":") and not any(found))
        self._levels -= 1
        try:
            if operator in ("-", ":-", "=", ":="):
                return [self.text(word)] if empty else found
            if operator in ("+", ":+"):
                return [] if empty else self.words(word)
            if operator in ("#", "##", "%", "%%"):
                return None if found is None else [_trimmed(each, operator, self.text(word)) for each in found]
            return found if operator or not word else None
        finally:
            self._levels += 1

    def _substituted(self, text: str) -> list[str] | None:
        """The output of commands that only say where something is; None of others."""
        if self._levels == 0:
            return None
        self._levels -= 1
        try:
            directory = self.base
            for command in commands(text):
                words = [word for raw in command.words for word in self.words(raw) if word != "--"]
                if any("$" in word for word in words):
                    return None
                if words[:1] == ["cd"] and len(words) == 2:
                    directory = Path(os.path.normpath(directory / words[1]))
                else:
                    said = _said(words, directory)
                    return None if said is None else [said]
            return None
        finally:
            self._levels += 1


def assignment(raw: str) -> tuple[str, bool, str] | None:
    """(name, whether it is added to, what is written) if a written word sets a variable."""
    match = _ASSIGNED.match(raw)
    return None if match is None else (match[1], bool(match[2]), raw[match.end() :])


def _said(words: list[str], directory: Path) -> str | None:
    """The output of a command that looks at nothing but its words."""
    plain = [word for word in words[1:] if not word.startswith("-")]
    match words[:1]:
        case ["pwd"]:
            return str(directory)
        case ["dirname"] if plain:
            return os.path.dirname(plain[0]) or "."
        case ["basename"] if plain:
            return os.path.basename(plain[0]).removesuffix(plain[1] if len(plain) > 1 else "")
        case ["realpath" | "readlink"] if plain:
            return os.path.normpath(directory / plain[0])
        case ["which" | "command" | "type"] if plain:
            return plain[0]
        case ["echo"]:
            return " ".join(plain)
        case ["nproc"]:
            return str(os.cpu_count() or 1)
    return None


def _split(parts: list[str]) -> list[str]:
    return [word for part in parts for word in part.split()]


def _trimmed(value: str, operator: str, pattern: str) -> str:
    """A value without what a pattern matches at its begin (``#``) or end (``%``): the shortest, or the longest."""
    if len(value) > _TRIMMED or len(pattern) > _PATTERN:
        return value
    matches = re.compile(translate(pattern)).fullmatch
    at_begin = operator.startswith("#")
    lengths = range(len(value) + 1) if len(operator) == 1 else range(len(value), -1, -1)
    for length in lengths:
        if matches(value[:length] if at_begin else value[len(value) - length :]):
            return value[length:] if at_begin else value[: len(value) - length]
    return value
