"""Services of compose files that run llama-server, as profiles."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from lmxd.errors import LmxdError
from lmxd.migrate.command import StartCommand
from lmxd.migrate.container import Container
from lmxd.migrate.entries import FoundModel
from lmxd.migrate.leaves import Leaves, flat, shown
from lmxd.migrate.shell_script import filled, named, names_of
from lmxd.migrate.source import yaml_with

_WHY: Final = "is of the container, and lmxd starts llama-server itself"


def read(path: Path) -> FoundModel:
    """LmxdError ``config`` if it is no compose file."""
    whole = Leaves(_interpolated(yaml_with("services", path, "name a compose file")))
    found = FoundModel()
    services = whole.part("services")
    for name in services:
        if found.full:
            found.say(f"{name}: and what follows is left out")
            break
        _service(found, name, services.part(name), path.absolute().parent)
    found.report.rest(whole.rest(), {"volumes": "are named where services use them", "services": "run no llama-server"})
    if not found.entries:
        raise LmxdError("config", f"{path}: no service runs llama-server", "name a compose file with one that does")
    return found.checked()


def _interpolated(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _interpolated(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_interpolated(inner) for inner in value]
    return filled(value, {}).replace("$$", "$") if isinstance(value, str) else value


def _service(found: FoundModel, name: str, service: Leaves, base: Path) -> None:
    image, words = (
        str(service.peek("image") or ""),
        _words(service.peek("entrypoint")) + _words(service.peek("command")),
    )
    inside = Container(image=image, words=words)
    if not inside.runs_llama_server():
        return  # its leaves are in the rest
    for key in ("image", "entrypoint", "command"):
        service.take(key)
    model = names_of(words, name)[0]
    left = found.about(model)
    left.unneed(f"service {name}, image {image}", _WHY)
    for volume in _listed(service.take("volumes")):
        inside.mount(volume if isinstance(volume, str) else _mount(volume))
        left.unneed(", ".join(f"{leaf}: {shown(leaf, value)}" for leaf, value in flat("volume", volume)), _WHY)
    variables = service.take("environment")
    if isinstance(variables, list):
        variables = dict(str(item).partition("=")[::2] for item in variables)
    inside.environment = (
        {str(k): str(v) for k, v in (variables or {}).items()} if isinstance(variables, Mapping) else {}
    )
    found.add(named(found, words, name, StartCommand(["llama-server"], dict(inside.environment), base, inside)))
    for leaf, value in service.drain():
        left.unneed(f"{leaf}: {shown(leaf, value)}", _WHY)


def _words(value: object) -> list[str]:
    if isinstance(value, list):
        return [str(word) for word in value]
    try:
        return shlex.split(str(value or ""))
    except ValueError:
        return str(value).split()


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _mount(volume: object) -> str:
    parts = volume if isinstance(volume, Mapping) else {}
    return f"{parts.get('source', '')}:{parts.get('target', '')}"
