"""``lmxd import``, ``lmxd scan`` and ``lmxd init``."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Callable
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
from lmxd.terminal import Commands, say, say_lines

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
        for line in _wrapped(sentence):
            say(line, err=True)


def _wrapped(sentence: str) -> list[str]:
    """The lines of a sentence: as wide as the terminal, if somebody looks on, with no word broken."""
    if not sys.stderr.isatty():
        return [f"  {sentence}"]
    width = shutil.get_terminal_size().columns
    indents = {"initial_indent": "  ", "subsequent_indent": "    "}
    return textwrap.wrap(sentence, width, **indents, break_long_words=False, break_on_hyphens=False)  # type: ignore[arg-type]


def _done(found: FoundModel, source: str, output: Path | None) -> None:
    _write(rendered(found, source), output)
    ready = sum(not entry.open for entry in found.entries)
    say(f"{ready} model{'' if ready == 1 else 's'} from {source}", err=True)
    for headline, sentences in found.report.lines().items():
        _say(sentences, headline)


@click.group("import", cls=Commands)
def import_() -> None:
    """Profiles from what another tool is configured with, as YAML; what could not be carried over is said."""


_READERS: dict[str, tuple[str, Callable[[Path], FoundModel]]] = {
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


def _command(name: str, about: str, read: Callable[[Path], FoundModel]) -> click.Command:
    @click.command(name, help=f"From {about}")
    @click.argument("file", type=PATH)
    @OUTPUT
    def from_file(file: Path, output: Path | None) -> None:
        _done(read(file), str(file), output)

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
        _done(modelfile.read(path), str(path), output)
        return
    store = ollama.store(path)
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
