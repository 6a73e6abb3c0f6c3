"""The plan of ``lmxd setup``: all that is to be written and started, before anything of it is done."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lmxd.config.adding import with_setting
from lmxd.config.file import DEFAULT_CONFIG, parse
from lmxd.config.gateway import GatewayConfig
from lmxd.config.keys import Keys
from lmxd.daemon.checks import check
from lmxd.daemon.places import places
from lmxd.errors import LmxdError
from lmxd.setup.change import FileChange
from lmxd.setup.inventory import Inventory
from lmxd.setup.merging import merged
from lmxd.setup.new_configuration import configuration
from lmxd.setup.services import Services, services

_PORTS: Final = range(8080, 8100)


@dataclass(frozen=True, kw_only=True, slots=True)
class SetupPlan:
    """The configuration and how it is started; ``socket`` is the daemon's. ``amiss``: sentences about what is wrong."""

    user: bool
    socket: Path
    configuration: FileChange
    gateway: GatewayConfig
    services: Services
    amiss: list[str]

    @property
    def changes(self) -> tuple[FileChange, ...]:
        """All files that are to be written."""
        return (self.configuration, *self.services.files)

    @property
    def lacks_key(self) -> bool:
        """Whether the gateway needs keys, and there is none."""
        path = self.gateway.keys_file
        return path is not None and not (path.expanduser().exists() and len(Keys(path)))


def planned(directories: Sequence[Path], here: Inventory, *, user: bool) -> SetupPlan:
    """The plan for the models found in ``directories``. LmxdError if something is missing, or wrong."""
    after = _configuration(directories, here)
    config = parse(after, str(here.path))
    checked = check(config, None, alone=user)
    if not checked.models:
        problem = "; ".join(["no model file (*.gguf) was found", *here.found.left])
        raise LmxdError("model_file_missing", problem, "name a directory, or fetch one: lmxd pull hf:ORG/REPO")
    if checked.errors:
        raise LmxdError("config", "; ".join(checked.errors), f"mend it in {here.path}")
    where = places(None, user=user)
    amiss = [*here.found.left, *(warning for warning in checked.warnings if "keys_file" not in warning)]
    return SetupPlan(
        user=user,
        socket=where.socket,
        configuration=FileChange(here.path, here.before, after),
        gateway=config.gateway,
        services=services(user=user, state=where.state),
        amiss=list(dict.fromkeys(amiss)),
    )


def _configuration(directories: Sequence[Path], here: Inventory) -> str:
    """The configuration as it is to be: a new one, or the old one with the models and the gateway that it lacks."""
    if here.before is None:
        return configuration(directories, here.found, _gateway(here.path), own=here.path != DEFAULT_CONFIG)
    text, _ = merged(here.before, str(here.path), here.found)
    if here.config.gateway.listen is None:
        text = with_setting(text, "gateway", _gateway(here.path))
    return text


def _gateway(path: Path) -> dict[str, Any]:
    """The section for a gateway, with its keys beside the configuration."""
    return {"listen": f"127.0.0.1:{_free_port()}", "keys_file": str(path.with_name("gateway.keys"))}


def _free_port() -> int:
    """A port that nobody listens on. LmxdError ``config`` if there is none."""
    for port in _PORTS:
        with socket.socket() as sock, suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", port))
            return port
    problem = f"the ports {_PORTS[0]} to {_PORTS[-1]} of 127.0.0.1 are all in use"
    raise LmxdError("config", problem, "say gateway.listen in the configuration")
