"""The presets of llama-server's router (models.ini) as profiles."""

from __future__ import annotations

import configparser
from pathlib import Path
from typing import Final

from lmxd.engines.llama_cpp import flags
from lmxd.errors import LmxdError
from lmxd.migrate import words
from lmxd.migrate.entries import Entry, FoundModel

_ALL: Final = "*"
_ABOUT_ROUTER: Final = frozenset(("stop-timeout", "alias", "tags"))
_TRUE: Final = frozenset(("true", "on", "1", "yes", "enabled"))
_FALSE: Final = frozenset(("false", "off", "0", "no", "disabled"))
_NONE: Final = "version"


def read(path: Path) -> FoundModel:
    """LmxdError ``config`` if it is no such file."""
    found, common = FoundModel(), {}
    sections = _sections(path)
    if _ALL in sections:
        common = sections.pop(_ALL)
    for name, own in sections.items():

        def left(what: str, name: str = name) -> None:
            found.left.append(f"{name}: {what}")

        options = common | own
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
        text = path.read_text(encoding="utf-8")
        parser.read_string(f"[{_NONE}]\n{text}")  # version stands before all sections
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        why = getattr(error, "strerror", None) or " ".join(str(error).split())
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
