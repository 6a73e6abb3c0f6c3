"""systemd units that start llama-server, as profiles."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lmxd.errors import LmxdError
from lmxd.migrate.command import StartCommand
from lmxd.migrate.container import Container
from lmxd.migrate.entries import FoundModel
from lmxd.migrate.environment import read_variables
from lmxd.migrate.leaves import shown
from lmxd.migrate.report import About
from lmxd.migrate.shell_script import named
from lmxd.migrate.shell_variables import ShellVariables
from lmxd.migrate.source import reason, text_of

_REMEDY: Final = "name a service unit that starts llama-server"
_WHY: Final = "is of the unit, and lmxd starts and ends llama-server itself"
_ALONE: Final = re.compile(r"\$[A-Za-z_][A-Za-z0-9_]*")
_SPECIFIER: Final = re.compile(r"%[a-zA-Z]")


@dataclass(slots=True)
class _Unit:
    """A service, or a container that podman makes one of (Quadlet)."""

    name: str
    base: Path
    starts: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    placed: bool = False
    container: Container = field(default_factory=Container)

    def take(self, section: str, key: str, value: str, left: About) -> None:
        """Take one setting in, and account for it."""
        said = f"[{section}] {key}={shown(key, value)}"
        if key == "EnvironmentFile":
            self._read(value.lstrip("-"), left)
            return
        if key == "Environment":
            self.variables |= dict(item.partition("=")[::2] for item in _split(value))
            return
        if (section, key) == ("Service", "ExecStart"):
            self.starts.append(value.lstrip("@-:+!"))
            return
        if key == "WorkingDirectory" and section == "Service":
            self.base, self.placed = Path(_split(value.lstrip("-"))[0]).expanduser(), True
            left.unneed(said, "relative paths begin there")
            return
        if section == "Container":
            self._of_container(key, value)
        left.unneed(said, _WHY)

    def commands(self) -> Iterator[StartCommand]:
        """The commands that it starts."""
        if self.container.image:
            yield StartCommand(["llama-server"], self.variables | self.container.environment, self.base, self.container)
        variables = ShellVariables(self.base, self.variables)
        for start in self.starts:
            words = [word for each in _split(start) for word in _expanded(each, variables)]
            if words:
                yield StartCommand(words, dict(self.variables), self.base, placed=self.placed)

    def _of_container(self, key: str, value: str) -> None:
        if key == "Image":
            self.container.image = value
        elif key == "ContainerName":
            self.container.name = value
        elif key in ("Exec", "Entrypoint"):
            words = self.container.words
            self.container.words = [*words, *_split(value)] if key == "Exec" else [*_split(value), *words]
        elif key in ("Volume", "Mount"):
            self.container.mount(_split(value)[0])

    def _read(self, name: str, left: About) -> None:
        path = self.base / Path(_split(name)[0])
        try:
            found = read_variables(path)
        except (OSError, ValueError) as error:
            left(f"EnvironmentFile={name}: its variables are not read: {reason(error)}")
            return
        self.variables |= found
        left.unneed(f"EnvironmentFile={name}", f"its variables are read: {', '.join(found) or 'none'}")


def read(path: Path) -> FoundModel:
    """LmxdError ``config`` if it is no unit that starts something."""
    name = path.name.removesuffix(".service").removesuffix(".container").rstrip("@")
    found, unit = FoundModel(), _Unit(name or path.name, path.absolute().parent)
    left = found.about(unit.name)
    for section, key, value in _settings(path, left):
        unit.take(section, key, value, left)
    if not (unit.starts or unit.container.image):
        raise LmxdError("config", f"{path}: has no ExecStart", _REMEDY)
    for started in unit.commands():
        entry = named(found, unit.name, started)
        if _SPECIFIER.search(str(entry.settings.get("path"))):
            entry.open = True
            left(f"path: {entry.settings['path']} is of an instance of the unit: write out what %… stands for")
        found.add(entry)
    return found.checked()


def _expanded(word: str, variables: ShellVariables) -> list[str]:
    """The words that one becomes: several only if it is a variable alone, without braces."""
    text = variables.filled_doubled(word)
    return text.split() if _ALONE.fullmatch(word) else [text]


def _split(text: str) -> list[str]:
    """Words as systemd reads them, with the specifier for the home."""
    try:
        words = shlex.split(text)
    except ValueError:
        words = text.split()
    return [word.replace("%h", str(Path.home())).replace("%%", "%") for word in words] or [""]


def _settings(path: Path, left: About) -> list[tuple[str, str, str]]:
    """(section, key, value) in their order. A key without a value takes back what was said before."""
    text = text_of(path, _REMEDY)
    found: dict[tuple[str, str], list[str]] = {}
    section = begun = ""
    for raw in text.split("\n"):
        line = raw.strip()
        if line.startswith(("#", ";")) or (not line and not begun):
            continue
        if line.endswith("\\"):
            begun += f"{line[:-1].rstrip()} "
            continue
        line, begun = f"{begun}{line}", ""
        key, equals, value = line.partition("=")
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif equals and not value.strip():
            found.pop((section, key.strip()), None)
        elif equals:
            found.setdefault((section, key.strip()), []).append(value.strip())
        elif section:
            left(f"{line!r} is no setting of a unit: systemd, too, passes it by")
        else:
            raise LmxdError("config", f"{path}: {line[:80]!r} is no setting of a unit", _REMEDY)
    return [(*key, value) for key, values in found.items() for value in values]
