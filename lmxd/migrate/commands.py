"""``lmxd import``, ``lmxd scan`` and ``lmxd init``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from lmxd.config.file import read_configuration
from lmxd.errors import LmxdError
from lmxd.files import replace_text
from lmxd.migrate import (
    compose,
    large_model_proxy,
    llama_server,
    llama_swap,
    machine,
    modelfile,
    ollama,
    shell_script,
    systemd_unit,
)
from lmxd.migrate.entries import FoundModel, rendered
from lmxd.migrate.merging import merged
from lmxd.migrate.pull import pull
from lmxd.terminal import say, say_lines

PATH = click.Path(path_type=Path)
OUTPUT = click.option(
    "--output", "-o", type=PATH, help="Write there rather than to standard output; never over a file."
)


def _write(text: str, output: Path | None) -> None:
    if output is None:
        say_lines(text)
        return
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise LmxdError("config", f"{output}: {error.strerror}", "choose another --output") from error


def _say(left: list[str], headline: str) -> None:
    if left:
        say(headline, err=True)
    for sentence in left:
        say(f"  {sentence}", err=True)


def _done(found: FoundModel, source: str, output: Path | None) -> None:
    _write(rendered(found, source), output)
    ready = sum(not entry.open for entry in found.entries)
    say(f"{ready} model{'' if ready == 1 else 's'} from {source}", err=True)
    for headline, sentences in found.report.lines().items():
        _say(sentences, headline)


@click.group("import")
def import_() -> None:
    """Profiles from what another tool is configured with, as YAML; what could not be carried over is said."""


@import_.command("llama-swap")
@click.argument("file", type=PATH)
@OUTPUT
def from_llama_swap(file: Path, output: Path | None) -> None:
    """From llama-swap's config.yaml."""
    _done(llama_swap.read(file), str(file), output)


@import_.command("llama-server")
@click.argument("file", type=PATH)
@OUTPUT
def from_llama_server(file: Path, output: Path | None) -> None:
    """From the presets of llama-server's router, models.ini."""
    _done(llama_server.read(file), str(file), output)


@import_.command("ollama")
@click.argument("path", type=PATH, required=False)
@OUTPUT
def from_ollama(path: Path | None, output: Path | None) -> None:
    """From ollama's store, or from a Modelfile.

    The store is where OLLAMA_MODELS or convention says that it is. The files stay where they are.
    """
    if path is not None and path.is_file():
        _done(modelfile.read(path), str(path), output)
        return
    store = ollama.store(path)
    _done(ollama.read(store), f"ollama's store in {store}", output)


@import_.command("large-model-proxy")
@click.argument("file", type=PATH)
@OUTPUT
def from_large_model_proxy(file: Path, output: Path | None) -> None:
    """From large-model-proxy's config.json."""
    _done(large_model_proxy.read(file), str(file), output)


@import_.command("compose")
@click.argument("file", type=PATH)
@OUTPUT
def from_compose(file: Path, output: Path | None) -> None:
    """From a compose file of docker or podman: its services that run llama-server."""
    _done(compose.read(file), str(file), output)


@import_.command("systemd")
@click.argument("file", type=PATH)
@OUTPUT
def from_systemd(file: Path, output: Path | None) -> None:
    """From a systemd unit that starts llama-server."""
    _done(systemd_unit.read(file), str(file), output)


@import_.command("script")
@click.argument("file", type=PATH)
@OUTPUT
def from_script(file: Path, output: Path | None) -> None:
    """From a shell script that starts llama-server, or a container of it. It is read, not run."""
    _done(shell_script.read(file), str(file), output)


@click.command()
@click.argument("directories", type=PATH, nargs=-1)
@OUTPUT
def scan(directories: tuple[Path, ...], output: Path | None) -> None:
    """Profiles of the GGUF files in DIRECTORIES and below, with the bytes that each would take here.

    Without any: of those in the caches of huggingface_hub, llama.cpp, LM Studio and ollama.
    """
    _done(machine.scan(directories), ", ".join(map(str, directories)) or "the usual places", output)


@click.command()
@click.argument("directories", type=PATH, nargs=-1)
@click.option("--output", "-o", type=PATH, help="Write there; what is there stays, and gets the models that it lacks.")
@click.option("--force", is_flag=True, help="Write anew over what is there, which is kept beside it as FILE.old.")
def init(directories: tuple[Path, ...], output: Path | None, force: bool) -> None:
    """A commented configuration for this machine: its devices, its engine, the models in DIRECTORIES and below.

    Without any: the models in the caches of huggingface_hub, llama.cpp, LM Studio and ollama.
    """
    found = machine.look(directories)
    there = output is not None and os.path.lexists(output)
    if output is not None and there and not force:
        _add_to(output, found)
    else:
        text = machine.configuration(directories, found)
        if output is not None and there:
            _set_aside(output)
        _write(text, output)
    _say(found.left, "what is amiss:")


def _add_to(path: Path, found: FoundModel) -> None:
    """Add the models that a configuration lacks."""
    text = read_configuration(path)
    more, names = merged(text, str(path), found)
    if not names:
        say(f"{path}: no model more was found", err=True)
        return
    if not replace_text(path, more, keep_mode=True):
        raise LmxdError("config", f"{path} cannot be written", "choose another --output")
    say(f"{path}: added {', '.join(names)}", err=True)


def _set_aside(path: Path) -> None:
    try:
        path.replace(path.with_name(f"{path.name}.old"))
    except OSError as error:
        raise LmxdError("config", f"{path}: {error.strerror}", "choose another --output") from error


COMMANDS = (import_, scan, init, pull)
