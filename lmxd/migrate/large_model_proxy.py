"""large-model-proxy's configuration as profiles."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from lmxd.engines.engine import EngineKind
from lmxd.files import read_text
from lmxd.migrate import command
from lmxd.migrate.command import StartCommand
from lmxd.migrate.entries import FoundModel
from lmxd.migrate.leaves import Leaves
from lmxd.migrate.source import document_with

_LARGEST: Final = 512 * 2**10
"""Bytes of a file."""
_STRING_OR_COMMENT: Final = re.compile(r'("(?:\\.|[^"\\])*(?:"|\Z))|//[^\n]*|/\*.*?(?:\*/|\Z)', re.DOTALL)
_STRING_OR_COMMA: Final = re.compile(r'("(?:\\.|[^"\\])*(?:"|\Z))|,(?=\s*[}\]])', re.DOTALL)
_ADDRESS: Final = "lmxd gives each instance an address of its own"
_REASONS: Final = {
    "ListenPort": "clients ask the gateway for a model by its name",
    "ProxyTargetHost": _ADDRESS,
    "ProxyTargetPort": _ADDRESS,
    "ServiceUrl": _ADDRESS,
    "DefaultServiceUrl": _ADDRESS,
    "HealthcheckCommand": "lmxd knows when llama-server is ready",
    "HealthcheckIntervalMilliseconds": "lmxd knows when llama-server is ready",
    "KillCommand": "lmxd ends what it started itself",
    "ConsiderStoppedOnProcessExit": "lmxd ends what it started itself",
    "RestartOnConnectionFailure": "an instance that fails is started anew when it is asked for",
    "LogFilePath": "lmxd keeps a log of each instance: lmxctl logs",
    "OpenAiApi": "gateway: listen is for all models",
    "OpenAiApiModels": "they are aliases",
    "ManagementApi": "the gateway has the dashboard",
    "ResourcesAvailable": "lmxd measures what there is; gpu.max_memory_gb bounds it",
    "ResourceRequirements": "lmxd estimates what llama-server takes",
}
"""Key -> why it has no counterpart."""


def read(path: Path) -> FoundModel:
    """LmxdError ``config`` if it is none of large-model-proxy's."""
    remedy = "name large-model-proxy's config.json"
    whole = Leaves(document_with("Services", list, path, lambda: _json(read_text(path, _LARGEST)), remedy))
    found = FoundModel()
    idle = whole.number("ShutDownAfterInactivitySeconds")
    found.settings["idle_timeout"] = int(min(idle or 120, 10**9))  # its own default
    for number, service in enumerate(whole.take("Services")):
        if found.full:
            found.say(f"Services[{number}]: and what follows is left out")
            break
        if isinstance(service, Mapping):
            _service(found, Leaves(service), f"service-{number}", path.absolute().parent)
        else:
            found.say(f"Services[{number}] is a {type(service).__name__}, not keys and values")
    found.report.rest(whole.rest(), _REASONS)
    return found.checked()


def _json(text: str) -> object:
    """JSON with the comments and trailing commas that large-model-proxy allows."""
    text = _STRING_OR_COMMENT.sub(lambda found: found[1] or " ", text)
    return json.loads(_STRING_OR_COMMA.sub(lambda found: found[1] or "", text))


def _service(found: FoundModel, service: Leaves, name: str, base: Path) -> None:
    name = service.text("Name") or name
    left = found.about(name)
    program, args = service.text("Command"), service.text("Args") or ""
    said = service.text("Workdir") or service.text("WorkDir")
    where = base / (said or "")
    try:
        argv = [*([program] if program else []), *shlex.split(args)]
    except ValueError as error:
        argv = []
        left(f"Args: {error} (it was {args})")
    if not argv or program is None:
        left("has no Command")
        left.rest(service.rest(), _REASONS)
        return
    entry = command.entry(found, name, StartCommand(argv, {}, where, placed=said is not None))
    if said is not None:
        left.unneed(f"Workdir {where}", "its relative paths begin there")
    if (idle := service.number("ShutDownAfterInactivitySeconds")) is not None and idle > 0:
        entry.settings["idle_timeout"] = int(min(idle, 10**9))
    if (startup := service.number("StartupTimeoutMilliseconds")) is not None and startup > 0:
        entry.settings["load_timeout"] = int(min(max(startup / 1000, 1), 10**9))
    entry.settings["aliases"] = service.items("OpenAiApiModels")
    if "command" in entry.settings or entry.settings.get("engine") in (EngineKind.SGLANG, EngineKind.TGI):
        _declare(entry.settings, service)
    left.rest(service.rest(), _REASONS)
    found.add(entry)


def _declare(settings: dict[str, Any], service: Leaves) -> None:
    """The bytes of the card that an engine of another kind is said to take: they are in MB there, by custom."""
    needs = service.part("ResourceRequirements")
    cards = [key for key in needs if "vram" in key.lower() or "gpu" in key.lower()]
    taken = sum(filter(None, [needs.number(key) for key in cards]))
    if taken > 0:
        settings["estimated_memory_gb"] = round(taken * 10**6 / 2**30, 3)
