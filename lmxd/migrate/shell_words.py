"""The commands of a shell's text, which is read and never run."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

_ENDS_WORD: Final = frozenset(" \t\r\n;|&<>)")
_ARRAY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+?=$")
_OPERATOR: Final = re.compile(r"&?(?:<<<|<<-|<<|>>|<>|[<>])[|&]?")
_CLOSES: Final = {"(": ")", "{": "}"}
_DEEPEST: Final = 16
"""Levels of quotes and substitutions in each other."""


@dataclass(slots=True)
class ShellCommand:
    """A command: its words as they are written, with their quotes, but without what becomes of its output."""

    line: int
    words: list[str]
    label: bool = False
    """A pattern of ``case``, or the name of a function."""
    documents: list[str] = field(default_factory=list)
    """Texts that it is given on the lines that follow (``<<END``)."""

    def __str__(self) -> str:
        """Its words, and how many lines it is given."""
        lines = sum(document.count("\n") for document in self.documents)
        return " ".join(self.words) + (f" << {lines} lines" if lines else "")


def commands(text: str) -> list[ShellCommand]:
    """The commands of a text in their order, whether or not they would be run."""
    return _Reading(text).commands()


def closed_at(text: str, start: int) -> int:
    """The place after what begins at ``start``: ``"…"``, ``'…'``, ``$(…)`` or ``${…}``; else after one character."""
    reading = _Reading(text)
    reading.at = start
    reading.step(_DEEPEST)
    return min(reading.at, len(text))


class _Reading:
    """A text and how far it was read."""

    def __init__(self, text: str) -> None:
        self.at = 0
        self._text = text
        self._line = 1
        self._words: list[str] = []
        self._first = 1
        self._found: list[ShellCommand] = []
        self._awaited: list[tuple[str, bool]] = []
        """Ends of documents that begin on the next line, and whether tabs may stand before them."""
        self._open = 0
        self._piped = 0
        """Commands in a row, each with | behind it: they may be patterns of ``case``."""

    def commands(self) -> list[ShellCommand]:
        while self.at < len(self._text):
            self._next(self._text[self.at])
        self._end()
        return self._found

    def _next(self, c: str) -> None:
        if c == "\n":
            self._end()
            self.at += 1
            self._line += 1
            self._documents()
        elif self._text.startswith("\\\n", self.at):
            self.at += 2
            self._line += 1
        elif c in " \t\r":
            self.at += 1
        elif c == "#":
            end = self._text.find("\n", self.at)
            self.at = len(self._text) if end < 0 else end
        elif self._text.startswith(("<(", ">("), self.at):
            self._word()
        elif c in "<>" or self._text.startswith("&>", self.at):
            self._redirected()
        elif c in ";|&":
            self._end(piped=c == "|")
            self.at += 1
        elif c in "()" and not self._text.startswith("((", self.at):
            self._parenthesis(c)
        else:
            self._word()

    def _parenthesis(self, c: str) -> None:
        """A group of commands, the name of a function, or a pattern of ``case``."""
        self.at += 1
        if c == "(":
            named = bool(self._words) and self._text.startswith(")", self.at)
            self._open += 0 if named else 1
            self.at += named
            self._end(label=named)
        else:
            self._end(label=not self._open)
            self._open = max(0, self._open - 1)

    def _end(self, *, label: bool = False, piped: bool = False) -> None:
        if self._words:
            self._found.append(ShellCommand(self._first, self._words, label))
            self._words = []
            for earlier in self._found[len(self._found) - 1 - self._piped :]:
                earlier.label = label
            self._piped = self._piped + 1 if piped else 0

    def _redirected(self) -> None:
        """Pass by where output goes, and where input comes from."""
        if self._words and self._words[-1].isdigit() and self._text[self.at - 1].isdigit():
            self._words.pop()  # the number of what is redirected
        operator = _OPERATOR.match(self._text, self.at)
        said = operator[0] if operator else self._text[self.at]
        self.at += len(said)
        while self._text[self.at : self.at + 1] in (" ", "\t"):
            self.at += 1
        start = self.at
        self._through_word()
        if said in ("<<", "<<-"):
            end = self._text[start : self.at].replace("'", "").replace('"', "").replace("\\", "")
            self._awaited.append((end, said == "<<-"))

    def _documents(self) -> None:
        """Pass by the documents that were announced on the line before."""
        for end, tabs in self._awaited:
            start = stop = self.at
            while self.at < len(self._text):
                stop = self._text.find("\n", self.at)
                stop = len(self._text) if stop < 0 else stop
                line = self._text[self.at : stop]
                self.at = stop + 1
                self._line += 1
                if (line.lstrip("\t") if tabs else line) == end:
                    stop -= len(line)
                    break
            if self._found:
                self._found[-1].documents.append(self._text[start:stop])
        self._awaited.clear()

    def _word(self) -> None:
        start, self._first = self.at, self._first if self._words else self._line
        self._through_word()
        self._words.append(self._text[start : self.at])
        self._line += self._text.count("\n", start, self.at)

    def _through_word(self) -> None:
        start = self.at
        while self.at < len(self._text):
            c = self._text[self.at]
            if c == "(":
                before = self._text[start : self.at]
                if before and before[-1] not in "<>?*+@!(" and not _ARRAY.match(before[-200:]):
                    return
                self._through_pair(_DEEPEST)
            elif c in _ENDS_WORD and not (self.at == start and self._text.startswith(("<(", ">("), self.at)):
                return
            else:
                self.step(_DEEPEST)

    def step(self, levels: int) -> None:
        """Go past one character, or past what is quoted or substituted."""
        c, text = self._text[self.at], self._text
        if c == "\\":
            self.at += 2
        elif c == "'" or text.startswith("$'", self.at):
            end = text.find("'", self.at + len("$'" if c == "$" else "'"))
            self.at = len(text) if end < 0 else end + 1
        elif c == '"' and levels:
            self.at += 1
            while self.at < len(text) and text[self.at] != '"':
                self._inside_quotes(levels - 1)
            self.at += 1
        elif c == "$" and levels and text[self.at + 1 : self.at + 2] in _CLOSES:
            self.at += 1
            self._through_pair(levels - 1)
        elif c == "`":
            end = text.find("`", self.at + 1)
            self.at = len(text) if end < 0 else end + 1
        else:
            self.at += 1

    def _inside_quotes(self, levels: int) -> None:
        """The same inside of ``"…"``, where ``'`` is a character as any other."""
        if self._text[self.at] == "'" or self._text.startswith("$'", self.at):
            self.at += 1
        else:
            self.step(levels)

    def _through_pair(self, levels: int) -> None:
        opens = self._text[self.at]
        closes, depth = _CLOSES[opens], 0
        while self.at < len(self._text):
            c = self._text[self.at]
            depth += (c == opens) - (c == closes)
            if c in (opens, closes):
                self.at += 1
                if not depth:
                    return
            else:
                self.step(levels)
