"""systemd units that start llama-server, as profiles."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final

from lmxd.errors import LmxdError
from lmxd.files import read_text
from lmxd.migrate.command import StartCommand
from lmxd.migrate.entries import FoundModel
from lmxd.migrate.leaves import shown
from lmxd.migrate.shell_script import filled, named

_LARGEST: Final = 256 * 2**10
"""Bytes of a file."""
_WHY: Final = "is of the unit, and lmxd starts and ends llama-server itself"


def read(path: Path) -> FoundModel:
    """LmxdError ``config`` if it is no unit that starts something."""
    found, name = FoundModel(), path.name.partition(".")[0].rstrip("@") or path.name
    left = found.about(name)
    starts: list[str] = []
    variables: dict[str, str] = {}
    base = path.absolute().parent
    for section, key, value in _settings(path):
        if (section, key) == ("Service", "ExecStart"):
            starts.append(value.lstrip("@-:+!"))
        elif (section, key) == ("Service", "Environment"):
            variables |= dict(item.partition("=")[::2] for item in _split(value))
        elif (section, key) == ("Service", "WorkingDirectory"):
            base = Path(value.lstrip("-")).expanduser()
            left.unneed(f"WorkingDirectory={value}", "relative paths begin there")
        elif key == "EnvironmentFile":
            left(f"EnvironmentFile: its variables are not read (it was {value})")
        else:
            left.unneed(f"[{section}] {key}={shown(key, value)}", _WHY)
    if not starts:
        raise LmxdError("config", f"{path}: has no ExecStart", "name a service unit that starts llama-server")
    for start in starts:
        argv = _split(filled(start, variables))
        if argv:
            found.add(named(found, argv, name, StartCommand(argv, dict(variables), base)))
    return found.checked()


def _split(text: str) -> list[str]:
    """Words as systemd reads them, with the specifier for the home."""
    try:
        words = shlex.split(text)
    except ValueError:
        words = text.split()
    return [word.replace("%h", str(Path.home())).replace("%%", "%") for word in words]


def _settings(path: Path) -> list[tuple[str, str, str]]:
    """(section, key, value) in their order. A key without a value takes back what was said before."""
    try:
        text = read_text(path, _LARGEST)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise LmxdError("config", f"{path}: {why}", "name a service unit that starts llama-server") from error
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
        else:
            raise LmxdError("config", f"{path}: {line[:80]!r} is no setting of a unit", "name a service unit")
    return [(*key, value) for key, values in found.items() for value in values]
