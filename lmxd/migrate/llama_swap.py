"""llama-swap's configuration as profiles."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from lmxd.config.values import variables_of
from lmxd.migrate import command, filters, macros, programs
from lmxd.migrate.command import StartCommand
from lmxd.migrate.entries import MOST, Entry, FoundModel
from lmxd.migrate.leaves import Leaves
from lmxd.migrate.macros import Macros
from lmxd.migrate.report import About
from lmxd.migrate.source import yaml_with

_OF_WINDOWS: Final = re.compile(r"""(?:^|[\s"'=])[A-Za-z]:\\""")
_OF_MODEL: Final = {
    "proxy": "lmxd gives each instance an address of its own",
    "checkEndpoint": "lmxd knows when llama-server is ready",
    "cmdStop": "lmxd ends what it started itself",
    "useModelName": "llama-server takes any name",
    "unlisted": "all models are listed, to whoever may use them",
    "concurrencyLimit": "slots say how many requests an instance serves at once; the others wait",
    "sendLoadingState": "who waits is told so by the gateway",
    "macros": "no value refers to it",
}
"""Key of a model -> why it has no counterpart."""
_TOP: Final = {
    "startPort": "lmxd gives each instance an address of its own",
    "groups": "what fits runs together, by its bytes; there are no groups",
    "matrix": "what fits runs together, by its bytes",
    "routing": "what fits runs together, by its bytes",
    "apiKeys": "lmxd key NAME adds one for the gateway",
    "macros": "no value refers to it",
    "sendLoadingState": "who waits is told so by the gateway",
    "profiles": "a name means one model here: make it an alias",
}
"""Key of the file -> the same."""


def read(path: Path) -> FoundModel:
    """LmxdError ``config`` if it is none of llama-swap's."""
    whole = Leaves(yaml_with("models", path, "name llama-swap's config.yaml"))
    snippets = whole.take("macros")
    snippets = snippets if isinstance(snippets, Mapping) else {}
    found, filled = FoundModel(), Macros(snippets)
    _settings(found, whole, filled)
    models = whole.take("models")
    for name, model in models.items():
        if found.full or filled.room <= 0:
            found.say(f"{name}: and what follows is left out: {MOST} models, or {macros.MOST} characters of macros,"
                      " are the most")  # fmt: skip
            break
        if isinstance(model, Mapping):
            _model(found, str(name), model, filled, path.absolute().parent)
        else:
            found.say(f"models.{name} is a {type(model).__name__}, not keys and values")
    _routing(found, whole)
    found.report.rest(whole.rest(), _TOP)
    found.report.rest(filled.unused(snippets), _TOP)
    return found.checked()


def _settings(found: FoundModel, whole: Leaves, filled: Macros) -> None:
    """Settings of the file that lmxd has, too. Without a ttl llama-swap keeps a model until another needs its place."""
    engine: dict[str, Any] = {}
    for key, own, least in (("healthCheckTimeout", "load_timeout", 15), ("unloadTimeout", "stop_timeout", 1)):
        if (seconds := whole.number(key)) is not None:
            engine[own] = max(least, _plain(seconds))
    if engine:
        found.settings["engine"] = engine
    found.settings["idle_timeout"] = _plain(whole.number("globalTTL") or 0) or "never"


def _model(found: FoundModel, name: str, model: Mapping[str, Any], filled: Macros, base: Path) -> None:
    left = found.about(name)
    own = model.get("macros")
    own = {**own, "MODEL_ID": name} if isinstance(own, Mapping) else {"MODEL_ID": name}
    used, filled.used = filled.used, set()
    leaves = Leaves(_filled(model, own, filled, left))
    argv = _argv(leaves.take("cmd"), left)
    if not argv:
        left("has no cmd")
        left.rest(leaves.rest(), _OF_MODEL)
        return
    entry = command.entry(found, name, StartCommand(argv, _environment(leaves), base))
    if "command" in entry.settings:
        entry.settings["command"] = [word.replace("${PORT}", "{port}") for word in argv]
        if (health := leaves.text("checkEndpoint")) is not None:
            entry.settings["health"] = health
    _carry(entry, leaves, name, left)
    found.add(entry)
    left.rest(leaves.rest(), _OF_MODEL)
    left.rest(filled.unused({key: value for key, value in own.items() if key != "MODEL_ID"}), _OF_MODEL)
    filled.used = used | (filled.used - own.keys())


def _filled(model: Mapping[str, Any], own: Mapping[str, Any], filled: Macros, left: About) -> dict[str, Any]:
    """A model with its macros. Comments of a command go before: a macro in one may come to several lines."""
    made = {}
    for key, value in model.items():
        if key == "macros":
            continue
        if key in ("cmd", "cmdStop") and isinstance(value, str):
            value = "\n".join(line for line in value.split("\n") if not line.lstrip().startswith("#"))
        try:
            made[str(key)] = filled.value(value, own)
        except ValueError as error:
            left(f"{key}: {error}")
    for text in (str(value) for value in made.values()):
        for macro in sorted(macros.unknown(text)):
            left(f"the macro {macro} is not defined")
        for variable in sorted(variables_of(text)):
            left(f"the environment has no {variable}: ${{env.{variable}}} stays as it is, for lmxd to fill in")
    return made


def _argv(cmd: object, left: About) -> list[str]:
    """The words of a command line, as llama-swap's shell-like reading has them. The port stays a place."""
    lines = [line.rstrip() for line in str(cmd or "").split("\n")]
    joined = "\n".join(f"{line[:-1]} " if line.endswith("\\") else line for line in lines)
    if _OF_WINDOWS.search(joined):
        return programs.windows_words(joined)
    try:
        return shlex.split(joined)
    except ValueError as error:
        left(f"cmd: {error}")
        return []


def _environment(leaves: Leaves) -> dict[str, str]:
    return dict(item.partition("=")[::2] for item in leaves.items("env"))


def _carry(entry: Entry, leaves: Leaves, name: str, left: About) -> None:
    """Settings of a model that lmxd has, too."""
    said = [text for key in ("name", "description") if (text := leaves.text(key)) is not None]
    entry.comment = "; ".join(filter(None, (" ".join(said), entry.comment)))
    if (ttl := leaves.number("ttl")) is not None and ttl >= 0:
        own = entry.settings.get("idle_timeout")
        if own is not None:
            left(f"--sleep-idle-seconds: its ttl counts (it was {own})")
        entry.settings["idle_timeout"] = _plain(ttl) or "never"
    elif ttl is not None:
        left.unneed(f"ttl {_plain(ttl)}", "the idle_timeout of all models is meant")
    if (seconds := leaves.number("unloadTimeout")) is not None and seconds > 0:
        entry.settings["stop_timeout"] = max(1, _plain(seconds))
    entry.settings["aliases"] = leaves.items("aliases")
    filters.carry(entry, leaves.part("filters"), name, left)


def _routing(found: FoundModel, whole: Leaves) -> None:
    """Carry over what is to stay, to come first, and to start at once. By bytes, lmxd finds out what runs together."""
    routing, models = whole.part("routing"), found.by_name()
    settings = routing.part("router").part("settings")
    for groups in (whole.part("groups"), settings.part("groups")):
        for name in groups:
            _group(found, name, groups.part(name), models)
    ranks = routing.part("scheduler").part("settings").part("fifo").part("priority")
    for name in ranks:
        if (entry := models.get(name)) and (rank := ranks.number(name)) is not None:
            entry.settings["priority"] = max(-100, min(100, _plain(rank)))
    hooks = whole.part("hooks").part("on_startup")
    for name in hooks.items("preload"):
        if entry := models.get(name):
            entry.settings["preload"] = True
        else:
            found.say(f"hooks.on_startup.preload: there is no model {name}")
    selectors = whole.part("selectors")
    for name in selectors:
        _selector(found, name, selectors.part(name), models)


def _group(found: FoundModel, name: str, group: Leaves, models: Mapping[str, Entry]) -> None:
    members = group.items("members")
    if stays := group.take("persistent"):
        for entry in filter(None, map(models.get, members)):
            entry.settings["pin"] = True
    said = ", ".join(m if m in models else f"{m}, which is no model here" for m in members)
    found.say(f"groups.{name}: {_TOP['groups']} (it was {said or 'empty'}{'; pinned, as persistent' if stays else ''})")


def _selector(found: FoundModel, name: str, selector: Leaves, models: Mapping[str, Entry]) -> None:
    """The first model of a selector is asked for by its name, too."""
    targets = selector.items("targets")
    target = next((target for target in targets if target in models), "")
    entry = models.get(target)
    if entry is not None:
        entry.call(name, target)
    meant = f"means {entry.name} here, alone of its targets" if entry else "has no model here"
    found.say(f"selectors.{name}: {meant} (they were {', '.join(targets) or 'none'})")


def _plain(number: float) -> int:
    return int(min(max(number, -(10**9)), 10**9))
