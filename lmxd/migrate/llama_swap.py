"""llama-swap's configuration as profiles."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from lmxd.errors import LmxdError
from lmxd.migrate import words
from lmxd.migrate.entries import Entry, FoundModel

_MACRO: Final = re.compile(r"\$\{([A-Za-z0-9_-]+)\}")
_OURS: Final = frozenset(("cmd", "ttl", "name", "description", "useModelName", "unlisted", "proxy", "concurrencyLimit"))
"""Of a model, what is carried over or has no meaning here."""
_TOP: Final = {
    "models", "macros", "groups", "hooks", "startPort", "logLevel", "logTimeFormat", "healthCheckTimeout",
    "metricsMaxInMemory", "includeAliasesInList", "logToStdout", "captureBuffer", "globalTTL",
}  # fmt: skip


def read(path: Path) -> FoundModel:
    """LmxdError ``config`` if it is none of llama-swap's."""
    whole = _whole(path)
    found = FoundModel()
    for name, model in whole["models"].items():
        if isinstance(model, Mapping):
            _model(found, str(name), model, whole)
        else:
            found.left.append(f"models.{name} is a {type(model).__name__}, not keys and values")
    _groups(found, whole)
    _hooks(found, whole)
    found.left += [f"{key}: has no counterpart here" for key in whole.keys() - _TOP]
    return found.checked()


def _whole(path: Path) -> dict[str, Any]:
    try:
        whole = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        why = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise LmxdError("config", f"{path}: {why}", "name llama-swap's config.yaml") from error
    if not isinstance(whole, dict) or not isinstance(whole.get("models"), dict):
        raise LmxdError("config", f"{path}: has no models", "name llama-swap's config.yaml")
    return whole


def _model(found: FoundModel, name: str, model: Mapping[str, Any], whole: Mapping[str, Any]) -> None:
    def left(what: str) -> None:
        found.left.append(f"{name}: {what}")

    argv = _argv(str(model.get("cmd", "")), name, whole, model, left)
    if not argv:
        left("has no cmd")
        return
    comment = " ".join(str(model[key]) for key in ("name", "description") if model.get(key))
    if "llama-server" in Path(argv[0]).name:
        settings = words.settings(argv[1:], left)
        if argv[0] != "llama-server":
            found.settings.setdefault("engine", {"path": argv[0]})
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


def _argv(cmd: str, name: str, whole: Mapping[str, Any], model: Mapping[str, Any], left: Any) -> list[str]:
    """The command line with its macros filled in. The port stays a place."""
    macros = {"MODEL_ID": name, **_keys(whole.get("macros")), **_keys(model.get("macros"))}
    for _ in range(10):  # macros may hold macros
        filled = _MACRO.sub(lambda m: str(macros.get(m[1], m[0])), cmd)
        if filled == cmd:
            break
        cmd = filled
    try:
        argv = shlex.split(cmd.replace("\\\n", " "), comments=True)
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
        found.left.append(f"groups.{name}: what fits runs together, by its bytes; there are no groups")


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
