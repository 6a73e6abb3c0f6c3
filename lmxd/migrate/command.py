"""The command that another tool starts a model with, as a profile."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

from lmxd.engines import environment as variables_of_engines
from lmxd.migrate import container, environment, hub_cache, shell_words, words
from lmxd.migrate.container import Container
from lmxd.migrate.engines import server
from lmxd.migrate.entries import Entry, FoundModel
from lmxd.migrate.leaves import is_secret
from lmxd.migrate.report import About

_ASSIGNMENT: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_WRAPPERS: Final = {
    "env": "-u -C -S --unset --chdir",
    "exec": "-a",
    "nohup": "",
    "setsid": "",
    "time": "",
    "nice": "-n --adjustment",
    "ionice": "-c -n --class --classdata",
    "taskset": "-c --cpu-list",
    "numactl": "-N -m -i -C -l --cpunodebind --membind --interleave --physcpubind --preferred",
    "stdbuf": "-i -o -e",
    "sudo": "-u -g --user --group",
    "chrt": "",
    "/usr/bin/env": "-u -C -S",
}
"""Programs that start the one that follows -> their options that have a value."""
_SHELLS: Final = frozenset(("sh", "bash", "zsh", "dash"))
_FOR_ALL: Final = "engine.environment sets it, for all models"
_ROUTERS: Final = frozenset(("--models-preset", "--models-dir"))
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

    def unwrapped(self, left: About) -> StartCommand:
        """Without the programs that only start it."""
        rest, wrapped = deque(self.argv), []
        while rest:
            if match := _ASSIGNMENT.fullmatch(rest[0]):
                self.environment[match[1]] = match[2]
                rest.popleft()
                continue
            name = PurePosixPath(rest[0]).name
            if name not in _WRAPPERS or len(rest) == 1:
                break
            wrapped.append(_wrapper(rest, _WRAPPERS[name].split()))
        for wrapper in wrapped:
            if wrapper not in ("exec", "env"):
                left(f"{wrapper}: lmxd starts the engine without it")
        self.argv = list(rest)
        return self._of_shell(left).unwrapped(left) if is_shell(self.argv) else self

    def _of_shell(self, left: About) -> StartCommand:
        """The command that a shell is given with -c."""
        said = shell_words.commands(self.argv[2])
        chosen = next(filter(starts_server, said), said[-1] if said else [])
        for other in said:
            if other is not chosen:
                left(f"{' '.join(other)}: is not run")
        self.argv = chosen
        return self

    def contained(self, left: About) -> StartCommand:
        """With the container that it starts, if it does."""
        if self.container is None and container.runs_container(self.argv):
            self.container = container.parse(self.argv, left)
            self.environment |= self.container.environment
        return self

    def arguments(self, left: About) -> list[str] | None:
        """The words for llama-server; None if it starts something else."""
        if self.container is not None:
            return self.container.arguments(left) if self.container.runs_llama_server() else None
        return self.argv[1:] if self.argv and "llama-server" in PurePosixPath(self.argv[0]).name else None


def is_shell(argv: Sequence[str]) -> bool:
    """Whether a command line is of a shell that is given another one."""
    return len(argv) > 2 and PurePosixPath(argv[0]).name in _SHELLS and re.fullmatch("-[a-z]*c", argv[1]) is not None


def starts_server(words: Sequence[str]) -> bool:
    """Whether a command line starts llama-server, or a container, somehow."""
    first = any("llama-server" in PurePosixPath(word).name for word in words[:8])
    return first or any(container.runs_container(words[at:]) for at in range(3))


def _wrapper(rest: deque[str], with_value: Sequence[str]) -> str:
    taken = [rest.popleft()]
    name = PurePosixPath(taken[0]).name
    while rest and rest[0].startswith("-") and len(rest) > 1:
        taken.append(rest.popleft())
        if taken[-1] in with_value and len(rest) > 1:
            taken.append(rest.popleft())
    if name in ("taskset", "chrt") and len(rest) > 1 and taken[1:2] != ["-c"]:
        taken.append(rest.popleft())
    return " ".join(taken)


def entry(found: FoundModel, name: str, command: StartCommand) -> Entry:
    """The profile of a command; a comment if it cannot be one yet."""
    left = found.about(name)
    command = command.unwrapped(left).contained(left)
    arguments = command.arguments(left)
    if arguments is None:
        left(_MISSING)
        _say_environment(command.environment, left)
        return Entry(name, {"command": list(command.argv)}, open=True)
    arguments = arguments + _from_environment(command.environment, left)
    made = llama_server(name, arguments, left)
    _locate(made, command, left)
    made.server = server(
        command.argv[0] if command.container is None else "llama-server", _allowed(command.environment)
    )
    return made


def llama_server(name: str, arguments: Sequence[str], left: About) -> Entry:
    """The profile of llama-server's own words."""
    settings = words.settings(arguments, left)
    settings.setdefault("context_length", 0)  # as llama-server does, without -c
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
        elif _ROUTERS & {word.partition("=")[0] for word in arguments}:
            made.open = True
            left("is the router: lmxd import llama-server FILE reads its presets, and models_from serves a directory")
        else:
            left("names no model file: it is looked up in model_dir by its name")
    return made


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


def _locate(made: Entry, command: StartCommand, left: About) -> None:
    """Make the path of a model the host's, and whole where its file is found."""
    said: Any = made.settings.get("path")
    if not said or "${env." in said:
        return
    if command.container is not None and not os.path.isfile(said):
        outside = command.container.on_host(said, command.base)
        if outside is None:
            left(f"path: {said} is inside of the container {command.container.image}: name the host's file")
            return
        left.unneed(f"path {said}", f"is {outside} on the host")
        said = outside
    path = Path(said).expanduser() if said.startswith("~/") else Path(said)
    if not path.is_absolute():
        near = [base / path for base in (command.base, Path.cwd()) if os.path.exists(base / path)]
        if near:
            path = near[0].absolute()
        else:
            left(f"path: {said} is relative, and is looked up in model_dir here: write the whole path if that differs")
    made.settings["path"] = str(path)
