"""llama-swap's configuration as profiles."""

from __future__ import annotations

import re
import shlex
from collections import ChainMap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from lmxd.config import yaml_text
from lmxd.engines.llama_cpp.binary import find
from lmxd.errors import LmxdError
from lmxd.files import read_text
from lmxd.migrate import words
from lmxd.migrate.entries import MOST, Entry, FoundModel, Left

_MACRO: Final = re.compile(r"\$\{([A-Za-z0-9_-]+)\}")
_DEEPEST: Final = 10
"""Levels of macros in macros."""
_LONGEST: Final = 32 * 2**10
"""Characters of a command line."""
_MOST: Final = 2 * 2**20
"""Characters that macros may come to in all command lines together."""
_OURS: Final = frozenset(("cmd", "ttl", "name", "description", "useModelName", "unlisted", "proxy", "concurrencyLimit"))
"""Of a model, what is carried over or has no meaning here."""
_TOP: Final = {
    "models", "macros", "groups", "hooks", "startPort", "logLevel", "logTimeFormat", "healthCheckTimeout",
    "metricsMaxInMemory", "includeAliasesInList", "logToStdout", "captureBuffer", "globalTTL",
}  # fmt: skip


class Macros:
    """The macros of a file, and the characters that they may still come to: they multiply, and each model has them."""

    def __init__(self, found: object) -> None:
        self._all = {name: str(value) for name, value in _keys(found).items()}
        self.room = _MOST

    def filled(self, cmd: str, own: Mapping[str, Any]) -> str:
        """A command line with its macros, which may hold macros. ValueError if it grows too long.

        ``own``: those of its model, which come before those of the file.
        """
        values = ChainMap({name: str(value) for name, value in own.items()}, self._all)
        for _ in range(_DEEPEST):
            filled = self._once(cmd, values)
            if filled == cmd:
                break
            cmd = filled
        return cmd

    def _once(self, cmd: str, values: Mapping[str, str]) -> str:
        room = _LONGEST - len(cmd)

        def value(macro: re.Match[str]) -> str:
            nonlocal room
            found = values.get(macro[1], macro[0])
            room -= len(found)
            if room < 0:
                raise ValueError(f"with its macros it has more than {_LONGEST} characters")
            self.room -= len(found)
            if self.room < 0:
                raise ValueError(f"the macros of all models have more than {_MOST} characters")
            return found

        filled = _MACRO.sub(value, cmd)
        if len(filled) > _LONGEST:
            raise ValueError(f"it has more than {_LONGEST} characters")
        return filled


def read(path: Path) -> FoundModel:
    """LmxdError ``config`` if it is none of llama-swap's."""
    whole = _whole(path)
    found, macros = FoundModel(), Macros(whole.get("macros"))
    for name, model in whole["models"].items():
        if found.full or macros.room <= 0:
            found.say(
                f"{name}: and what follows is left out: {MOST} models, or {_MOST} characters of macros, are the most"
            )
            break
        if isinstance(model, Mapping):
            _model(found, str(name), model, macros)
        else:
            found.say(f"models.{name} is a {type(model).__name__}, not keys and values")
    _groups(found, whole)
    _hooks(found, whole)
    for key in whole.keys() - _TOP:
        found.say(f"{key}: has no counterpart here")
    return found.checked()


def _whole(path: Path) -> dict[str, Any]:
    try:
        whole = yaml_text.load(read_text(path, yaml_text.LARGEST))
    except (OSError, UnicodeDecodeError, yaml_text.BadYaml) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise LmxdError("config", f"{path}: {why}", "name llama-swap's config.yaml") from error
    if not isinstance(whole, dict) or not isinstance(whole.get("models"), dict):
        raise LmxdError("config", f"{path}: has no models", "name llama-swap's config.yaml")
    return whole


def _model(found: FoundModel, name: str, model: Mapping[str, Any], macros: Macros) -> None:
    left = found.about(name)
    argv = _argv(str(model.get("cmd", "")), macros, {**_keys(model.get("macros")), "MODEL_ID": name}, left)
    if not argv:
        left("has no cmd")
        return
    comment = " ".join(str(model[key]) for key in ("name", "description") if model.get(key))
    if "llama-server" in Path(argv[0]).name:
        settings = words.settings(argv[1:], left)
        _engine(found, argv[0])
        entry = Entry(name, settings, comment)
    else:
        command = [word.replace("${PORT}", "{port}") for word in argv]
        entry = Entry(name, {"command": command}, comment, open=True)
        left(
            "is no llama-server: say its estimated_memory_gb, where it listens ({socket}, or {port} with {key_file} or"
            " open: true), and take the comment signs away"
        )
    ttl = model.get("ttl")
    if isinstance(ttl, (int, float)) and ttl > 0:
        entry.settings["idle_timeout"] = ttl
    if model.get("env"):
        left("env: lmxd sets the engine's environment itself")
    if aliases := _items(model.get("aliases")):
        entry.settings["aliases"] = aliases
    for key in model.keys() - _OURS - {"env", "aliases"}:
        left(f"{key}: has no counterpart here")
    found.add(entry)


def _engine(found: FoundModel, program: str) -> None:
    """Suggest the first program that is another than lmxd finds by itself: a file does not choose what is run."""
    if not found.suggested and program not in ("llama-server", _own_engine()):
        found.suggested["engine"] = {"path": program}
        found.say(f"engine.path: {program} is only suggested: take the comment signs away if you trust that program")


def _own_engine() -> str | None:
    try:
        return str(find(None))
    except LmxdError:
        return None


def _argv(cmd: str, macros: Macros, own: Mapping[str, Any], left: Left) -> list[str]:
    """The command line with its macros filled in. The port stays a place."""
    try:
        argv = shlex.split(macros.filled(cmd, own).replace("\\\n", " "), comments=True)
    except ValueError as error:
        left(f"cmd: {error}")
        return []
    for macro in set(_MACRO.findall(" ".join(argv))) - {"PORT"}:
        left(f"the macro {macro} is not defined")
    return argv


def _groups(found: FoundModel, whole: Mapping[str, Any]) -> None:
    """Carry over the models that were to stay. lmxd itself finds out by bytes which may run beside which."""
    entries = {e.name: e for e in found.entries}
    for name, group in _keys(whole.get("groups")).items():
        group = _keys(group)
        members = [m for m in _items(group.get("members")) if m in entries]
        if group.get("persistent"):
            for member in members:
                entries[member].settings["pin"] = True
        found.say(f"groups.{name}: what fits runs together, by its bytes; there are no groups")


def _hooks(found: FoundModel, whole: Mapping[str, Any]) -> None:
    entries = {e.name: e for e in found.entries}
    hooks = _keys(_keys(whole.get("hooks")).get("on_startup"))
    for member in _items(hooks.get("preload")):
        if member in entries:
            entries[member].settings["preload"] = True


def _keys(value: object) -> dict[str, Any]:
    """The value as keys and values; nothing if it is something else."""
    return {str(k): v for k, v in value.items()} if isinstance(value, Mapping) else {}


def _items(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []
