"""``lmxd import``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from lmxd.migrate import (
    compose,
    large_model_proxy,
    llama_server,
    llama_swap,
    modelfile,
    ollama,
    shell_script,
    systemd_unit,
)
from lmxd.migrate.entries import FoundModel
from lmxd.migrate.output import OUTPUT, PATH, write_found
from lmxd.terminal import Commands

_READERS: Final[dict[str, tuple[str, Callable[[Path], FoundModel]]]] = {
    "llama-swap": ("llama-swap's config.yaml.", llama_swap.read),
    "llama-server": ("the presets of llama-server's router, models.ini.", llama_server.read),
    "large-model-proxy": ("large-model-proxy's config.json.", large_model_proxy.read),
    "compose": ("a compose file of docker or podman: its services that run llama-server.", compose.read),
    "systemd": ("a systemd unit, or one of podman's (.container), that starts llama-server.", systemd_unit.read),
    "script": (
        "a shell script that starts llama-server, or a container of it. It is read, not run.",
        shell_script.read,
    ),
}
"""Name -> (words about its file, and its reader)."""


@click.group("import", cls=Commands)
def import_() -> None:
    """Profiles from what another tool is configured with, as YAML; what could not be carried over is said."""


def _command(name: str, about: str, read: Callable[[Path], FoundModel]) -> click.Command:
    @click.command(name, help=f"From {about}")
    @click.argument("file", type=PATH)
    @OUTPUT
    def from_file(file: Path, output: Path | None) -> None:
        write_found(read(file), str(file), output)

    return from_file


for _name, (_about, _read) in _READERS.items():
    import_.add_command(_command(_name, _about, _read))


@import_.command("ollama")
@click.argument("path", type=PATH, required=False)
@OUTPUT
def from_ollama(path: Path | None, output: Path | None) -> None:
    """From ollama's store, or from a Modelfile.

    The store is where OLLAMA_MODELS or convention says that it is. The files stay where they are.
    """
    if path is not None and path.is_file():
        write_found(modelfile.read(path), str(path), output)
        return
    store = ollama.store(path)
    write_found(ollama.read(store), f"ollama's store in {store}", output)
