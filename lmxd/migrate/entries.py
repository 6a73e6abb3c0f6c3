"""Profiles as they are found elsewhere, and the YAML that they become."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from lmxd.config import yaml_text
from lmxd.config.file import checked
from lmxd.config.names import fitting
from lmxd.errors import ConfigError
from lmxd.migrate.document import Document
from lmxd.text import shortened

MOST: Final = 2000
"""Profiles at once: as many as a configuration can hold."""
_MOST_SAID: Final = 500
"""Sentences about what was not carried over."""
_LONGEST: Final = 500
"""Characters of one."""

Sentence = str | Callable[[], str]
"""Words, or what makes them: that costs nothing for one that is not listed."""
Left = Callable[[Sentence], None]
"""Is told each thing that could not be carried over."""


@dataclass(slots=True)
class Entry:
    """One profile to be written. ``comment`` is put before it; ``open``: it lacks something, and becomes a comment."""

    name: str
    settings: dict[str, Any]
    comment: str = ""
    open: bool = False


@dataclass(slots=True)
class FoundModel:
    """All profiles found, sentences about what could not be carried over, and settings beside ``models``."""

    entries: list[Entry] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    suggested: dict[str, Any] = field(default_factory=dict)
    """Settings that become comments: somebody is to look at them first."""
    _taken: dict[str, int] = field(default_factory=dict)
    """By name: the number of entries that wanted it."""

    def say(self, sentence: Sentence) -> None:
        """Note what could not be carried over, within bounds: a file may be made of such things."""
        if len(self.left) < _MOST_SAID:
            self.left.append(shortened(_made(sentence), _LONGEST))
        elif len(self.left) == _MOST_SAID:
            self.left.append("and more")

    def about(self, name: str) -> Left:
        """Notes what could not be carried over of one model."""
        return lambda what: self.say(lambda: f"{name}: {_made(what)}")

    @property
    def full(self) -> bool:
        """Whether no more are taken."""
        return len(self.entries) >= MOST

    def add(self, entry: Entry) -> None:
        """Add an entry under a name that a client may use, and that no other has."""
        if self.full:
            self.say(f"{entry.name}: is left out, as there are {MOST} models already")
            return
        wanted = fitting(entry.name)
        name = wanted
        while name in self._taken:
            self._taken[wanted] += 1
            name = f"{wanted[:120]}-{self._taken[wanted]}"
        self._taken[name] = 1
        if name != entry.name:
            self.say(f"{entry.name}: is called {name} here")
        entry.name = name
        self.entries.append(entry)

    def checked(self) -> FoundModel:
        """Entries that lmxd would refuse become comments, what cannot be written is left out, and why is said."""
        writable, room = [], yaml_text.LARGEST
        for entry in self.entries:
            try:
                room -= len(yaml_text.dump({entry.name: entry.settings}))
            except yaml_text.BadYaml as error:
                self.say(f"{entry.name}: {error}")
                continue
            if room < 0:
                self.say(f"{entry.name}: is left out, as the configuration would be too large")
                break
            writable.append(entry)
            try:
                checked({"models": {entry.name: entry.settings}}, entry.name)
            except ConfigError as error:
                if not entry.open:
                    self.say(f"{entry.name}: {'; '.join(error.problems)}")
                entry.open = True
        self.entries = writable
        return self

    def write(self, document: Document, source: str) -> None:
        """Put all of it into a document."""
        document.comment(f"from {source}, by lmxd; check it with: lmxd check-config")
        if self.settings:
            document.put(self.settings)
        if self.suggested:
            document.suggest(self.suggested)
        document.models([({e.name: e.settings}, e.comment, e.open) for e in self.entries])


def _made(sentence: Sentence) -> str:
    return sentence if isinstance(sentence, str) else sentence()


def rendered(found: FoundModel, source: str) -> str:
    """A configuration, or the part of one, with comments. LmxdError ``config`` if it cannot be written."""
    document = Document()
    found.write(document, source)
    return document.text()
