"""``lmxd import``, ``lmxd scan`` and ``lmxd init``."""

from __future__ import annotations

from pathlib import Path

import click

from lmxd.errors import LmxdError
from lmxd.migrate import llama_server, llama_swap, machine, ollama
from lmxd.migrate.entries import FoundModel, rendered
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
    say(f"{sum(not e.open for e in found.entries)} models from {source}", err=True)
    _say(found.left, "not carried over as it was:")


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
@click.argument("directory", type=PATH, required=False)
@OUTPUT
def from_ollama(directory: Path | None, output: Path | None) -> None:
    """From ollama's store, where OLLAMA_MODELS or convention says that it is. The files stay where they are."""

    store = ollama.store(directory)
    _done(ollama.read(store), f"ollama's store in {store}", output)


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
@OUTPUT
def init(directories: tuple[Path, ...], output: Path | None) -> None:
    """A commented configuration for this machine: its devices, its engine, the models in DIRECTORIES and below.

    Without any: the models in the caches of huggingface_hub, llama.cpp, LM Studio and ollama.
    """
    text, left = machine.configuration(directories)
    _write(text, output)
    _say(left, "what is amiss:")


COMMANDS = (import_, scan, init, pull)
