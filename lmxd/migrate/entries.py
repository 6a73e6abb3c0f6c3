"""Profiles as they are found elsewhere, and the YAML that they become."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from lmxd.config import yaml_text
from lmxd.config.called import tagged
from lmxd.config.file import checked
from lmxd.config.names import composed, fitting
from lmxd.config.profile import Profile
from lmxd.errors import ConfigError
from lmxd.migrate.document import Document
from lmxd.migrate.engines import Server, named
from lmxd.migrate.report import About, Report, Sentence
from lmxd.text import shortened

MOST: Final = 2000
"""Profiles at once: as many as a configuration can hold."""
_LONGEST: Final = 200
"""Characters of a value that is said."""


@dataclass(slots=True)
class Entry:
    """One profile to be written. ``comment`` is put before it; ``open``: it lacks something, and becomes a comment."""

    name: str
    settings: dict[str, Any]
    comment: str = ""
    open: bool = False
    origin: str = ""
    """Its name where it comes from."""
    server: Server | None = None
    """The llama-server that ran it, if one did."""
    suggested: dict[str, Any] = field(default_factory=dict)
    """Settings that become comments."""

    def aliases(self) -> list[str]:
        """Its other names where it comes from, those of its variants, too."""
        every = (self.settings, *self.settings.get("variants", {}).values())
        return [name for settings in every for name in settings.get("aliases", ())]

    def call(self, name: str, other: str) -> None:
        """Let ``name`` mean the same as its ``other`` name, which may be that of a variant."""
        for variant in self.settings.get("variants", {}).values():
            if other in variant["aliases"]:
                variant["aliases"].append(name)
                return
        self.settings.setdefault("aliases", []).append(name)

    def note(self, words: str) -> None:
        """Add to its comment."""
        self.comment = f"{self.comment}; {words}" if self.comment else words


@dataclass(slots=True)
class FoundModel:
    """All profiles found, the account of what could not be carried over, and settings beside ``models``."""

    entries: list[Entry] = field(default_factory=list)
    report: Report = field(default_factory=Report)
    settings: dict[str, Any] = field(default_factory=dict)
    suggested: dict[str, Any] = field(default_factory=dict)
    """Settings that become comments: somebody is to look at them first."""
    _taken: dict[str, int] = field(default_factory=dict)
    """By name: the number of entries that wanted it."""

    @property
    def left(self) -> list[str]:
        """Sentences about what could not be carried over."""
        return self.report.left

    def say(self, sentence: Sentence) -> None:
        """Note what could not be carried over."""
        self.report.say(sentence)

    def about(self, name: str) -> About:
        """The report on one model."""
        return self.report.about(name)

    @property
    def full(self) -> bool:
        """Whether no more are taken."""
        return len(self.entries) >= MOST

    def add(self, entry: Entry) -> None:
        """Add an entry under a name that a client may use, and that no other has."""
        if self.full:
            self.say(f"{entry.name}: is left out, as there are {MOST} models already")
            return
        wanted = _fit(entry.name)
        name = wanted
        while name in self._taken:
            self._taken[wanted] += 1
            name = f"{wanted[:120]}-{self._taken[wanted]}"
        self._taken[name] = 1
        if name != composed(entry.name):
            self.say(f"{entry.name}: is called {name} here")
        entry.origin = entry.origin or entry.name
        entry.name = name
        self.entries.append(entry)

    def by_name(self) -> dict[str, Entry]:
        """The entries by their names where they come from, and by their aliases."""
        aliases = {alias: entry for entry in self.entries for alias in entry.aliases()}
        return aliases | {entry.origin: entry for entry in self.entries}

    def checked(self) -> FoundModel:
        """Settings that lmxd would refuse are left out; so are entries that cannot be written. Why is said."""
        self._check_aliases()
        self._suggest_engines()
        writable, room = [], yaml_text.LARGEST
        for entry in self.entries:
            self._check(entry)
            try:
                room -= len(yaml_text.dump({entry.name: entry.settings}))
            except yaml_text.BadYaml as error:
                self.say(f"{entry.name}: {error}")
                continue
            if room < 0:
                self.say(f"{entry.name}: is left out, as the configuration would be too large")
                break
            writable.append(entry)
        self.entries = writable
        return self

    def _suggest_engines(self) -> None:
        """Suggest the llama-servers that lmxd does not find by itself: one for all models, or each by a name."""
        ran = [(entry, entry.server) for entry in self.entries if entry.server is not None]
        others = [server for server in dict.fromkeys(server for _, server in ran) if server != Server()]
        if len(others) == 1:
            self.suggested["engine"] = others[0].settings
            keys = " and ".join(f"engine.{key}: {said}" for key, said in others[0].said.items())
            self.say(f"{keys} is only suggested: take the comment signs away if you trust that program")
        elif others:
            self.suggested["engines"] = {name: server.settings for name, server in named(others).items()}
            self.say(
                f"engines: {', '.join(named(others))} are only suggested: take the comment signs away, and those of"
                " engine at the models that they ran, if you trust these programs"
            )
        called = {server: name for name, server in named(others).items()}
        for entry, server in ran:
            words = " with ".join(server.said.values())
            if server == Server():
                self.report.unneed("llama-server", "is what lmxd finds by itself", entry.name)
            elif len(others) > 1:
                entry.suggested["engine"] = called[server]
                self.report.unneed(words, f"is suggested as engines.{called[server]}", entry.name)
            else:
                self.report.unneed(words, "is suggested as engine", entry.name)

    def _check_aliases(self) -> None:
        """Keep of each entry the aliases and variants that have names, and that nothing else is called."""
        taken = {entry.name for entry in self.entries}
        for entry in self.entries:
            aliases = self._free(entry, "aliases", entry.settings.pop("aliases", ()), {entry.name}, taken)
            entry.settings |= {"aliases": aliases} if aliases else {}
        for entry in self.entries:
            variants = entry.settings.pop("variants", {})
            kept = {tag: made for tag in variants if (made := self._variant(entry, tag, variants[tag], taken))}
            entry.settings |= {"variants": kept} if kept else {}

    def _variant(self, entry: Entry, tag: str, settings: dict[str, Any], taken: set[str]) -> dict[str, Any] | None:
        """A variant with the aliases that it may have; None if another is called like it."""
        names = tagged((entry.name, *entry.settings.get("aliases", ())), tag)
        where = f"variants.{tag}"
        if len(self._free(entry, where, names, set(), taken)) < len(names):
            return None
        wanted = [alias for alias in settings["aliases"] if composed(alias) not in names]
        aliases = self._free(entry, f"{where}.aliases", wanted, set(), taken)
        return {"set": settings["set"]} | ({"aliases": aliases} if aliases else {})

    def _free(self, entry: Entry, where: str, wanted: Iterable[str], own: set[str], taken: set[str]) -> list[str]:
        """The names that nothing else is called, which are taken from now on. Why others are left out is said."""
        found: list[str] = []
        for name in map(composed, wanted):
            if name in own or name in found:
                self.say(f"{entry.name}: {where}: {shortened(name, _LONGEST)} is its name already")
            elif name in taken:
                self.say(f"{entry.name}: {where}: {shortened(name, _LONGEST)} is the name of another")
            elif not _is_name(name):
                self.say(f"{entry.name}: {where}: {shortened(name, _LONGEST)} is no name of a model here")
            else:
                taken.add(name)
                found.append(name)
        return found

    def _check(self, entry: Entry) -> None:
        """Take out each setting that lmxd refuses. An entry that cannot do without it becomes a comment."""
        for _ in range(len(entry.settings) + 1):
            try:
                Profile.model_validate(entry.settings)
                return
            except ValidationError as error:
                found = error.errors(include_url=False)
            keys = {str(e["loc"][0]): e["msg"].removeprefix("Value error, ") for e in found if e["loc"]}
            essential = {"path", "command", "env"} & keys.keys()
            for key, why in keys.items():
                value = entry.settings[key] if key in essential else entry.settings.pop(key)
                self.say(f"{entry.name}: {key}: {why} (it was {shortened(str(value), _LONGEST)})")
            if essential or not keys:
                if not keys and not entry.open:
                    self.say(f"{entry.name}: {found[0]['msg'].removeprefix('Value error, ')}")
                entry.open = True
                return

    def write(self, document: Document, source: str) -> None:
        """Put all of it into a document."""
        document.comment(f"from {source}, by lmxd; check it with: lmxd check-config")
        if self.settings:
            document.put(self.settings)
        if self.suggested:
            document.suggest(self.suggested)
        document.models([({e.name: e.settings}, e.comment, e.open, e.suggested) for e in self.entries])


def _is_name(name: str) -> bool:
    """Whether lmxd takes it as the name of a model."""
    try:
        checked({"models": {name: {}}}, name)
    except ConfigError:
        return False
    return True


def _fit(name: str) -> str:
    """A name that is as near to another as it can be."""
    near = fitting(name)
    return near if _is_name(near) else f"{near[:120]}-model"


def rendered(found: FoundModel, source: str) -> str:
    """A configuration, or the part of one, with comments. LmxdError ``config`` if it cannot be written."""
    document = Document()
    found.write(document, source)
    return document.text()
