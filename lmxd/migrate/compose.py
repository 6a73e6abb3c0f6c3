"""Services of compose files that run llama-server, as profiles."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmxd.errors import LmxdError
from lmxd.migrate.command import StartCommand
from lmxd.migrate.container import CARDS, OF_CONTAINER, Container
from lmxd.migrate.entries import FoundModel
from lmxd.migrate.environment import read_variables
from lmxd.migrate.leaves import Leaves, flat, shown
from lmxd.migrate.report import About
from lmxd.migrate.shell_script import named, names_for
from lmxd.migrate.shell_variables import ShellVariables
from lmxd.migrate.source import reason, yaml_with


def read(path: Path) -> FoundModel:
    """LmxdError ``config`` if it is no compose file."""
    found, base = FoundModel(), path.absolute().parent
    variables = ShellVariables(base, _beside(base / ".env", found))
    whole = Leaves(_interpolated(yaml_with("services", path, "name a compose file"), variables))
    services = whole.part("services")
    for name in services:
        if found.full:
            found.say(f"{name}: and what follows is left out")
            break
        _service(found, name, services.part(name), base)
    found.report.rest(whole.rest(), {"volumes": "are named where services use them", "services": "run no llama-server"})
    if not found.entries:
        raise LmxdError("config", f"{path}: no service runs llama-server", "name a compose file with one that does")
    return found.checked()


def _beside(path: Path, found: FoundModel) -> dict[str, str]:
    """The variables of the file that compose reads by itself."""
    try:
        variables = read_variables(path) if path.exists() else {}
    except (OSError, ValueError) as error:
        found.say(f"{path}: is not read: {reason(error)}")
        return {}
    if variables:
        found.report.unneed(f"{path}", f"its variables are read: {', '.join(variables)}")
    return {name: value for name, value in variables.items() if name not in os.environ}


def _interpolated(value: Any, variables: ShellVariables) -> Any:
    if isinstance(value, dict):
        return {key: _interpolated(inner, variables) for key, inner in value.items()}
    if isinstance(value, list):
        return [_interpolated(inner, variables) for inner in value]
    return variables.filled_doubled(value) if isinstance(value, str) else value


def _service(found: FoundModel, name: str, service: Leaves, base: Path) -> None:
    image, words = (
        str(service.peek("image") or ""),
        _words(service.peek("entrypoint")) + _words(service.peek("command")),
    )
    inside = Container(image=image, words=words)
    if not inside.serves():
        return  # its leaves are in the rest
    for key in ("image", "entrypoint", "command"):
        service.take(key)
    variables = _environment(service.take("environment"))
    inside.environment, started = variables, StartCommand(["llama-server"], dict(variables), base, inside)
    left = found.about(names_for(started, name)[0])
    left.unneed(f"service {name}{f', image {image}' if image else ''}", OF_CONTAINER)
    for file in service.items("env_file"):
        _env_file(base / file, started, left)
    for volume in _listed(service.take("volumes")):
        inside.mount(volume if isinstance(volume, str) else _mount(volume))
        left.unneed(", ".join(f"{leaf}: {shown(leaf, value)}" for leaf, value in flat("volume", volume)), OF_CONTAINER)
    found.add(named(found, name, started))
    for leaf, value in service.drain():
        if leaf.startswith("extends"):
            left(f"{leaf}: {shown(leaf, value)}: what it adds is not read: write it out")
        elif leaf.endswith("device_ids"):
            left(f"{leaf}: {shown(leaf, value)}: {CARDS}")
        else:
            left.unneed(f"{leaf}: {shown(leaf, value)}", OF_CONTAINER)


def _environment(said: object) -> dict[str, str]:
    if isinstance(said, list):  # a name alone has the value that it has here
        pairs = [str(item).partition("=") for item in said]
        return {name: value if equals else os.environ.get(name, "") for name, equals, value in pairs}
    return {str(k): "" if v is None else _plain(v) for k, v in said.items()} if isinstance(said, Mapping) else {}


def _env_file(path: Path, started: StartCommand, left: About) -> None:
    try:
        found = read_variables(path)
    except (OSError, ValueError) as error:
        left(f"env_file {path}: is not read: {reason(error)}")
        return
    started.environment = found | started.environment
    left.unneed(f"env_file {path}", f"its variables are read: {', '.join(found) or 'none'}")


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


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
