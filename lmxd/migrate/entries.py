"""Profiles as they are found elsewhere, and the YAML that they become."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from lmxd.config.file import parse
from lmxd.errors import ConfigError

_UNFIT: Final = re.compile(r"[^A-Za-z0-9._:@+-]+")
_WIDTH: Final = 100


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

    def add(self, entry: Entry) -> None:
        """Add an entry under a name that a client may use, and that no other has."""
        name = _UNFIT.sub("-", entry.name).lstrip("-.:@+_")[:128] or "model"
        taken = {e.name for e in self.entries}
        numbered = name
        while numbered in taken:
            numbered = f"{name[:120]}-{1 + sum(t.startswith(name) for t in taken)}"
        if numbered != entry.name:
            self.left.append(f"{entry.name}: is called {numbered} here")
        entry.name = numbered
        self.entries.append(entry)

    def checked(self) -> FoundModel:
        """Entries that lmxd would refuse become comments, and why is said."""
        for entry in self.entries:
            try:
                parse(yaml.safe_dump({"models": {entry.name: entry.settings}}), entry.name)
            except ConfigError as error:
                if not entry.open:
                    self.left.append(f"{entry.name}: {'; '.join(error.problems)}")
                entry.open = True
        return self


def rendered(found: FoundModel, source: str) -> str:
    """A configuration, or the part of one, with comments."""
    text = [f"# {_printable(f'from {source}, by lmxd; check it with: lmxd check-config')}"]
    text += [_yaml(found.settings)] if found.settings else []
    closed = [e for e in found.entries if not e.open]
    text.append("models:" if closed else "models: {}")
    text += [_entry(e) for e in found.entries]
    return "\n".join(text) + "\n"


def _entry(entry: Entry) -> str:
    lines = [f"# {line}" for line in textwrap.wrap(_printable(entry.comment), _WIDTH - 4)]
    lines += _yaml({entry.name: entry.settings}).splitlines()
    mark = "#" if entry.open else ""
    return "\n".join(f"{mark}  {line}" for line in lines)


def _printable(text: str) -> str:
    """YAML refuses control characters, and some end a comment."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


class _Dumper(yaml.SafeDumper):
    """A key a line; lists on one."""


def _list(dumper: yaml.SafeDumper, value: list[Any]) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=True)


_Dumper.add_representer(list, _list)


def _yaml(value: object) -> str:
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=_WIDTH, allow_unicode=True).rstrip()
