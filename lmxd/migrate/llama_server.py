"""The presets of llama-server's router (models.ini) as profiles."""

from __future__ import annotations

import configparser
from pathlib import Path
from typing import Final

from lmxd.engines.llama_cpp import flags
from lmxd.errors import LmxdError
from lmxd.files import read_text
from lmxd.migrate import words
from lmxd.migrate.entries import MOST, Entry, FoundModel
from lmxd.text import shortened

_ALL: Final = "*"
_ABOUT_ROUTER: Final = frozenset(("stop-timeout", "alias", "tags"))
_TRUE: Final = frozenset(("true", "on", "1", "yes", "enabled"))
_FALSE: Final = frozenset(("false", "off", "0", "no", "disabled"))
_NONE: Final = "version"
_LARGEST: Final = 512 * 2**10
"""Bytes of a file."""
_LINES: Final = 20_000
_MOST: Final = 20_000
"""Options of all models together. Those of [*] are in each."""


def read(path: Path) -> FoundModel:
    """LmxdError ``config`` if it is no such file."""
    found, common, room = FoundModel(), {}, _MOST
    sections = _sections(path)
    if _ALL in sections:
        common = sections.pop(_ALL)
    for name, own in sections.items():
        left, options = found.about(name), common | own
        room -= len(options)
        if found.full or room < 0:
            left(f"and what follows is left out: {MOST} models, or {_MOST} options, are the most")
            break
        preload = options.pop("load-on-startup", "").lower() in _TRUE
        settings = words.settings(_argv(options), left)
        if "path" not in settings:
            left("names no model file: it is looked up in model_dir by its name")
        if preload:
            settings["preload"] = True
        found.add(Entry(name, settings))
    return found.checked()


def _sections(path: Path) -> dict[str, dict[str, str]]:
    parser = configparser.ConfigParser(
        interpolation=None, strict=True, default_section="\0", comment_prefixes=(";", "#"), empty_lines_in_values=False
    )
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    try:
        text = read_text(path, _LARGEST)
        if text.count("\n") > _LINES:
            raise LmxdError("config", f"{path}: has more than {_LINES} lines", "import a part of it")
        parser.read_string(f"[{_NONE}]\n{text}")  # version stands before all sections
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        why = getattr(error, "strerror", None) or shortened(" ".join(str(error).split()), 200)
        raise LmxdError("config", f"{path}: {why}", "name the file given as --models-preset") from error
    return {name: dict(parser[name]) for name in parser.sections() if name != _NONE}


def _argv(options: dict[str, str]) -> list[str]:
    """Keys are flags without their dashes, or the names of environment variables."""
    argv: list[str] = []
    for key, value in options.items():
        name = key.removeprefix("LLAMA_ARG_").lower().replace("_", "-") if key.startswith("LLAMA_ARG_") else key
        if name in _ABOUT_ROUTER:
            continue
        flag = f"-{name}" if len(name) <= 3 and f"--{name}" not in flags.ALLOWED else f"--{name}"
        if flags.ALLOWED.get(flag) is False:
            argv += [flag] if value.lower() not in _FALSE else []
        else:
            argv += [flag, value]
    return argv
