"""``lmxd scan`` and ``lmxd init``: the models of this machine as profiles, and a configuration that has them."""

from __future__ import annotations

import os
from pathlib import Path

import click

from lmxd.config.file import read_configuration
from lmxd.config.writing import write_own
from lmxd.errors import LmxdError
from lmxd.migrate.entries import FoundModel
from lmxd.migrate.output import OUTPUT, PATH, say_all, write, write_found
from lmxd.setup import found_profiles
from lmxd.setup.merging import merged
from lmxd.setup.new_configuration import configuration
from lmxd.terminal import say


@click.command()
@click.argument("directories", type=PATH, nargs=-1)
@OUTPUT
def scan(directories: tuple[Path, ...], output: Path | None) -> None:
    """Profiles of the GGUF files in DIRECTORIES and below, with the bytes that each would take here.

    Where vllm is on PATH, also of directories with config.json and *.safetensors.

    Without any: of those in the caches of huggingface_hub, llama.cpp, LM Studio and ollama.
    """
    write_found(found_profiles.scan(directories), ", ".join(map(str, directories)) or "the usual places", output)


@click.command()
@click.argument("directories", type=PATH, nargs=-1)
@click.option("--output", "-o", type=PATH, help="Write there; what is there stays, and gets the models that it lacks.")
@click.option("--force", is_flag=True, help="Write anew over what is there, which is kept beside it as FILE.old.")
def init(directories: tuple[Path, ...], output: Path | None, force: bool) -> None:
    """A commented configuration for this machine: its devices, its engine, the models in DIRECTORIES and below.

    Without any: the models in the caches of huggingface_hub, llama.cpp, LM Studio and ollama.
    """
    found = found_profiles.look(directories)
    there = output is not None and os.path.lexists(output)
    if output is not None and there and not force:
        _add_to(output, found)
    else:
        text = configuration(directories, found)
        if output is not None and there:
            _set_aside(output)
        write(text, output)
    say_all("what is amiss:", found.left)


def _add_to(path: Path, found: FoundModel) -> None:
    """Add the models that a configuration lacks."""
    text = read_configuration(path, regular=True)
    more, names = merged(text, str(path), found)
    if not names:
        say(f"{path}: no model more was found", err=True)
        return
    write_own(path, more)
    say(f"{path}: added {', '.join(names)}", err=True)


def _set_aside(path: Path) -> None:
    if not path.is_file():
        raise LmxdError("config", f"{path} is not a regular file", "choose another --output")
    try:
        path.replace(path.with_name(f"{path.name}.old"))
    except OSError as error:
        raise LmxdError("config", f"{path}: {error.strerror}", "choose another --output") from error
