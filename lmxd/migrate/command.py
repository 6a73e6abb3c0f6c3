"""The command that another tool starts a model with, as a profile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Final

from lmxd.engines import environment as variables_of_engines
from lmxd.engines.engine import EngineKind
from lmxd.migrate import container, environment, hub_cache, programs, words
from lmxd.migrate.container import Container
from lmxd.migrate.engines import server
from lmxd.migrate.entries import Entry, FoundModel
from lmxd.migrate.leaves import is_secret
from lmxd.migrate.locating import PathContext, locate
from lmxd.migrate.other_flags import said_by
from lmxd.migrate.other_servers import OtherServer, in_container, other_server
from lmxd.migrate.report import About
from lmxd.migrate.shell_reader import ShellReader

_FOR_ALL: Final = "engine.environment sets it, for all models"
_ROUTERS: Final = frozenset(("--models-preset", "--models-dir"))
_TOOLS: Final = frozenset(("llama-swap", "large-model-proxy", "ollama"))
_BLIND: Final = frozenset(("--no-mmproj", "--no-mmproj-auto"))
"""Switches without which a model of a hub has the projector beside it."""
_MISSING: Final = (
    "is no llama-server: say its estimated_memory_gb, where it listens ({socket}, or {port} with {key_file} or"
    " open: true), and take the comment signs away"
)


@dataclass(slots=True)
class StartCommand:
    """A command line, what is set for it, and the directory that its relative paths begin at."""

    argv: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    base: Path = field(default_factory=Path.cwd)
    container: Container | None = None
    placed: bool = False
    """Whether the directory is said, rather than guessed."""

    def unwrapped(self, left: About) -> StartCommand:
        """The same without the programs that only start it, and the shell that is given it as a line."""
        inner = programs.unwrapped(self.argv)
        for wrapper in inner.wrappers:
            if wrapper not in ("exec", "env", "command"):
                left(f"{wrapper}: lmxd starts the engine without it")
        plain = replace(self, argv=inner.argv, environment=self.environment | inner.environment)
        line = programs.line_for_shell(plain.argv)
        return plain if line is None else plain._of_line(line, left)

    def _of_line(self, line: str, left: About) -> StartCommand:
        """The first server that a line for a shell starts; itself if it starts none."""
        own = programs.words_for_line(self.argv)
        for place, word in own.items():
            left.unneed(f"${place}, {word}", "stands where the line uses it")
        values = own | {name: value for name, value in self.environment.items() if "$" not in value}
        first = self
        for number, started in enumerate(ShellReader(self.base, left, left.unneed, values).started(line)):
            if number:
                left(f"{' '.join(started.words)}: is the second that it starts")
                continue
            variables, placed = self.environment | started.environment, self.placed or started.placed
            inner = replace(self, argv=started.words, environment=variables, base=started.base, placed=placed)
            first = inner.unwrapped(left)
        return first

    def contained(self, left: About) -> StartCommand:
        """The same with the container that it starts, if it does; its words are unwrapped likewise."""
        inside, variables = self.container, self.environment
        if inside is None and container.runs_container(self.argv):
            inside = container.parse(self.argv, left)
            variables = variables | inside.environment
        if inside is None:
            return self
        inner = StartCommand(inside.words, variables, Path("/")).unwrapped(left)
        return replace(self, environment=inner.environment, container=replace(inside, words=inner.argv))

    @property
    def said(self) -> list[str]:
        """The words that say what is served: those of its variables first, since its own count more."""
        flags = [(environment.flag_of(name), value) for name, value in self.environment.items()]
        own = self.argv if self.container is None else self.container.words
        return [*(word for flag, value in flags if flag is not None for word in (flag, value)), *own]

    def resolved(self, left: About) -> StartCommand:
        """The same without what only starts it, on the host or in a container."""
        return self.unwrapped(left).contained(left)

    def arguments(self, left: About) -> list[str] | None:
        """The words for llama-server; None if it starts something else."""
        if self.container is not None:
            return self.container.arguments(left) if self.container.runs_llama_server() else None
        return programs.server_arguments(self.argv)

    def other_server(self) -> OtherServer | None:
        """The server of another kind that it starts; None if it starts none that is known."""
        if self.container is None:
            return other_server(self.argv)
        return in_container(self.container.image, self.container.words)


def entry(found: FoundModel, name: str, command: StartCommand, *, alone: bool = True) -> Entry:
    """The profile of a command; a comment if it cannot be one yet.

    ``alone``: without a model it is the router; otherwise the name says which model is meant.
    """
    left = found.about(name)
    command = command.resolved(left)
    if (other := command.other_server()) is not None:
        return _served(name, other, command, left)
    arguments = command.arguments(left)
    if arguments is None:
        _say_reader(command.argv, left)
        _say_environment(command.environment, left)
        return Entry(name, {"command": list(command.argv)}, open=True)
    arguments = arguments + _from_environment(command.environment, left)
    made = llama_server(name, arguments, left, alone=alone)
    locate(made, PathContext(command.base, command.placed, command.container), left)
    made.server = server(_program(command, left), _allowed(command.environment))
    return made


def llama_server(name: str, arguments: Sequence[str], left: About, *, alone: bool) -> Entry:
    """The profile of llama-server's own words. ``alone`` as above."""
    settings = words.settings(arguments, left)
    settings.setdefault("context_length", 0)  # as llama-server does, without -c
    if _BLIND & set(arguments):
        settings.pop("mmproj", None)
    of_hub = words.names_no_file(arguments)
    if "path" not in settings and not of_hub and hub_cache.is_repository(name):
        of_hub, settings = True, settings | words.looked_up({"repository": name}, left)
    made = Entry(name, settings)
    if settings["context_length"] == 0:
        made.note("context_length 0: as many tokens as the model was trained for")
    if "path" not in settings:
        made.open = of_hub
        if made.open:
            made.note("its file is not here yet")
        elif alone or _ROUTERS & {word.partition("=")[0] for word in arguments}:
            made.open = True
            left("is the router: lmxd import llama-server FILE reads its presets, and models_from serves a directory")
        else:
            left("names no model file: it is looked up in model_dir by its name")
    return made


def _served(name: str, server: OtherServer, command: StartCommand, left: About) -> Entry:
    """The profile of a model that another kind of engine serves. Without its directory it becomes a comment."""
    said = said_by(server, left)
    made = Entry(name, said.settings)
    made.settings["aliases"] = [other for other in said.names if other != name]
    if command.container is None:
        left.unneed(" ".join(command.argv[: len(command.argv) - len(server.words)]), f"is engine: {server.kind}")
    if server.program and "/" in server.program and command.container is None:
        left(f"was run by {server.program}: set engines.{server.kind}.path to it if lmxd finds another")
    _say_environment({key: x for key, x in command.environment.items() if not key.startswith("HF_")}, left)
    if _is_directory(str(said.settings.get("path", "")), command):
        locate(made, PathContext(command.base, command.placed, command.container), left)
    else:
        made.open = True
        named = said.settings.get("path", "none is named")
        left(f"path: {named}: name the directory that it was fetched to, and take the comment signs away")
    if server.kind is not EngineKind.VLLM:
        made.open = True
        made.note("say estimated_memory_gb, what it takes of each GPU, and take the comment signs away")
    if server.kind is EngineKind.TGI:
        made.settings["open"] = True
        made.note("open: every user of this machine can read TGI's key")
    return made


def _is_directory(path: str, command: StartCommand) -> bool:
    """Whether a model's path may be a directory, rather than the name of a repository, or a file."""
    if not path or path.endswith(".gguf"):
        return False
    return path.startswith(("/", "~", ".")) or command.container is not None or (command.base / path).is_dir()


def _say_reader(argv: Sequence[str], left: About) -> None:
    """Say what is missing, or which import reads what is started."""
    script = next((word for word in argv[:3] if word.endswith(".sh")), None)
    if script is not None:
        left(f"starts a script: lmxd import script {script} reads it")
    elif "compose" in argv[1:2] or (argv and programs.name_of(argv[0]) == "docker-compose"):
        file = next((file for flag, file in pairwise(argv) if flag in ("-f", "--file")), "compose.yaml")
        left(f"starts services: lmxd import compose {file} reads them")
    elif argv and (program := programs.name_of(argv[0])) in _TOOLS:
        left(f"starts {program}: lmxd import {program} reads its configuration")
    else:
        left(_MISSING)


def _program(command: StartCommand, left: About) -> str:
    """The program that ran it, if it is one of this system."""
    program = command.argv[0]
    if command.container is not None:
        return "llama-server"
    if programs.of_windows(program) or program.endswith(".exe") or "$" in program:
        left(f"was run by {program}" + (", which is of Windows" if "$" not in program else ""))
        return "llama-server"
    return str(command.base / program) if command.placed and "/" in program else program


def _from_environment(variables: Mapping[str, str], left: About) -> list[str]:
    argv: list[str] = []
    others: dict[str, str] = {}
    for name, value in variables.items():
        if (flag := environment.flag_of(name)) is None:
            others[name] = value
        elif own := environment.words_of(flag, value):
            argv += own
        else:
            left.unneed(f"{name}={value}", "it is off by itself")
    _say_environment(others, left)
    return argv


def _allowed(variables: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The variables that an engine may be given."""
    for name, value in variables.items():
        if environment.flag_of(name) is None and variables_of_engines.problem(name, value) is None:
            yield name, value


def _say_environment(variables: Mapping[str, str], left: About) -> None:
    for name, value in variables.items():
        why = variables_of_engines.problem(name, value) or _FOR_ALL
        left(f"env: {name}={'… (not shown)' if is_secret(name) else value}: {why}")
