"""``lmxd setup``."""

from __future__ import annotations

import getpass
import os
import shlex
import socket
import sys
import textwrap
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from lmxd.catalog.gpu_support import usable_here
from lmxd.config.adding import with_setting
from lmxd.config.file import DEFAULT_CONFIG, parse, read_configuration
from lmxd.config.gateway import GatewayConfig
from lmxd.config.location import USER, user_config
from lmxd.config.names import fitting
from lmxd.config.schema import Config
from lmxd.daemon.checks import check
from lmxd.daemon.places import Places, places
from lmxd.devices.measurement import DeviceKind
from lmxd.engines.llama_cpp.binary import find, probe
from lmxd.errors import LmxdError
from lmxd.gateway import keys
from lmxd.migrate import machine
from lmxd.migrate.entries import FoundModel
from lmxd.migrate.merging import merged
from lmxd.rpc.client import SYSTEM_SOCKET
from lmxd.setup.change import FileChange
from lmxd.setup.first_answer import ask_smallest, daemon_answers, gateway_answers, reload
from lmxd.setup.services import Services, services, typed_here
from lmxd.terminal import say, typed

_PORTS: Final = range(8080, 8100)
_WIDTH: Final = 80
_INDENT: Final = 11
_SHOWN: Final = 5
"""Models that are named."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """All that is to be done on this machine."""

    user: bool
    where: Places
    configuration: FileChange
    config: Config
    services: Services
    amiss: list[str]

    @property
    def lacks_key(self) -> bool:
        """Whether the gateway needs keys, and there is none."""
        path = self.config.gateway.keys_file
        return path is not None and (not path.exists() or not len(keys.Keys(path)))


@click.command()
@click.argument("directories", type=click.Path(path_type=Path), nargs=-1)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@USER
@click.pass_context
def setup(context: click.Context, directories: tuple[Path, ...], yes: bool) -> None:
    """From nothing to the first answer: find card, engine and models, configure, start, ask.

    Models are looked for in DIRECTORIES and below; without any, in the caches of huggingface_hub, llama.cpp, LM Studio
    and ollama. All that is to be written is shown before. What is there stays: it may be run again. As root it is the
    system's service that is set up, else the user's own.
    """
    root = context.find_root().params
    for option in ("config_path", "socket_path"):
        if root[option] is not None:
            problem = f"--{option.removesuffix('_path')} {root[option]}: setup uses the places that the service has"
            raise LmxdError("invalid_params", problem, "leave it out, or start lmxd by hand")
    _require_one_service(user=root["user"])
    todo = _todo(directories, user=root["user"] or os.geteuid() != 0)
    _show(todo)
    if not yes and not _agreed():
        say("nothing was written", err=True)
        return
    _do(todo)


def _require_one_service(*, user: bool) -> None:
    """An ordinary user who says nothing may mean the service that is there. LmxdError ``config``."""
    if not user and os.geteuid() != 0 and SYSTEM_SOCKET.exists():
        remedy = "set it up as root: sudo lmxd setup; or say --user for another, of your own"
        raise LmxdError("config", f"lmxd runs on this machine already, on {SYSTEM_SOCKET}", remedy)


def _todo(directories: Sequence[Path], *, user: bool) -> Setup:
    """Find out what there is, and what is to be done. LmxdError if something is missing, or wrong."""
    path = user_config() if user else DEFAULT_CONFIG
    found = machine.look(directories)
    before = read_configuration(path) if os.path.lexists(path) else None
    old = parse(before or "", str(path))
    _say_found(found, old)
    after = _configuration(directories, found, path, before)
    config = parse(after, str(path))
    checked = check(config, None, alone=user)
    if not checked.models:
        problem = "; ".join(["no model file (*.gguf) was found", *found.left])
        raise LmxdError("model_file_missing", problem, "name a directory, or fetch one: lmxd pull hf:ORG/REPO")
    if checked.errors:
        raise LmxdError("config", "; ".join(checked.errors), f"mend it in {path}")
    where = places(None, user=user)
    return Setup(
        user=user,
        where=where,
        configuration=FileChange(path, before, after),
        config=config,
        services=services(user=user, state=where.state),
        amiss=list(dict.fromkeys([*found.left, *(w for w in checked.warnings if "keys_file" not in w)])),
    )


def _say_found(found: FoundModel, config: Config) -> None:
    """Say what this machine has. LmxdError ``engine_missing`` if nothing could run a model."""
    _, devices = usable_here(config)
    for d in devices:
        if d.kind is not DeviceKind.POOL:
            _row("device", f"{d.ref}: {d.name}, {d.unavailable or f'{d.capacity / 2**30:.1f} GiB'}")
    _say_engines(config)
    names = [entry.name for entry in found.entries if not entry.open]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    _row("models", f"{', '.join(names[:_SHOWN]) or 'none more'}{more}")


def _say_engines(config: Config) -> None:
    """Say of each engine where it is. LmxdError ``engine_missing`` if there is none at all."""
    missing = []
    for settings in config.all_engines().values():
        try:
            binary = probe(find(settings.path, settings.key), settings.key)
        except LmxdError as error:
            missing.append(error)
            continue
        name = f"{settings.name}, " if config.engines else ""
        _row("engine", f"{name}llama-server {binary.version}: {binary.path}")
    if len(missing) > len(config.engines):
        raise missing[0]


def _command(name: str, words: str) -> None:
    """Say a command under a name, in one line: it is copied."""
    say(f"{name:<{_INDENT}}{words}", whole=True)


def _row(name: str, words: str, *, err: bool = False) -> None:
    """Say something under a name, in lines of 80 columns. A path that is longer stays whole."""
    lines = textwrap.wrap(words, _WIDTH - _INDENT, break_long_words=False, break_on_hyphens=False) or [""]
    for number, line in enumerate(lines):
        say(f"{'' if number else name:<{_INDENT}}{line}", err=err)


def _configuration(directories: Sequence[Path], found: FoundModel, path: Path, before: str | None) -> str:
    """The configuration as it is to be: a new one, or the old one with the models and the gateway that it lacks."""
    if before is None:
        return machine.configuration(directories, found, _gateway(path), own=path != DEFAULT_CONFIG)
    text, _ = merged(before, str(path), found)
    if parse(text, str(path)).gateway.listen is None:
        text = with_setting(text, "gateway", _gateway(path))
    return text


def _gateway(path: Path) -> dict[str, Any]:
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


def _show(todo: Setup) -> None:
    for sentence in todo.amiss:
        _row("amiss", sentence, err=True)
    for change in (todo.configuration, *todo.services.files):
        for line in change.lines():
            say(line, whole=True)
    if todo.lacks_key:
        _row("keys", f"one for {_caller()}, its hash in {todo.config.gateway.keys_file}")
    both_run = daemon_answers(todo.where.socket) and gateway_answers(todo.config.gateway)
    _row("start", todo.services.plan(both_run=both_run))


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise LmxdError("invalid_params", "nobody can be asked, and nothing was written", "say --yes")
    answer = typed("Go on? [Y/n] ")
    return answer is not None and answer.strip().lower() in ("", "y", "yes")


def _caller() -> str:
    """The name for the first key: that of who is at the terminal."""
    name = os.environ.get("SUDO_USER")
    with suppress(OSError, KeyError):
        name = name or getpass.getuser()
    return fitting(name or "first").replace("/", "-")[:64]


def _do(todo: Setup) -> None:
    todo.configuration.write(0o600 if todo.user else 0o644)
    for change in todo.services.files:
        change.write(0o644)
    gateway = todo.config.gateway
    key = None
    if gateway.keys_file is not None and todo.lacks_key:
        key = keys.add(gateway.keys_file, _caller(), admin=False)
    model = None
    try:
        runs = daemon_answers(todo.where.socket)
        todo.services.start(daemon_runs=runs, gateway_runs=gateway_answers(gateway))
        if not gateway_answers(gateway, key):
            problem = f"the gateway at {gateway.listen} does not answer, or is another's that does not know the key"
            raise LmxdError("daemon_unavailable", problem, "lmxd gateway says why; or choose another gateway.listen")
        if runs:
            reload(todo.where.socket)
        say()
        model = ask_smallest(todo.where.socket)
    finally:  # a key is shown once, and is not to be lost with an error
        say()
        _say_how(gateway, key, model, todo.services.end, user=todo.user)


def _say_how(gateway: GatewayConfig, key: str | None, model: str | None, end: str, *, user: bool) -> None:
    """Print what other programs need to know."""
    url = _url(gateway)
    shown = key or "as it was shown when it was made"
    if gateway.anonymous:
        shown = "none is needed"
    _row("base URL", f"{url}/v1")
    _row("key", shown)
    if key is None and not gateway.anonymous:
        _command("new key", f"{typed_here('lmxd')}{' --user' if user else ''} key NAME")
    _row("dashboard", f"{url}/")
    _command("ask", f'{typed_here("lmxctl")} ask {shlex.quote(model or "MODEL")} "QUESTION"')
    if end:
        _command("end", end)
    say()
    say("For Open WebUI (Admin Panel, Settings, Connections), and for OpenAI's clients:")
    say(f"  export OPENAI_BASE_URL={url}/v1", whole=True)
    say(f"  export OPENAI_API_BASE_URL={url}/v1", whole=True)
    say(f"  export OPENAI_API_KEY={key or 'KEY'}", whole=True)
    say("In a container: docs/containers.md; from another machine: docs/network.md.")


def _url(gateway: GatewayConfig) -> str:
    """The address for programs on this machine."""
    assert gateway.listen is not None
    if gateway.listen.startswith("unix:"):
        return gateway.listen
    here = gateway.listen.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")  # noqa: S104
    return f"{'http' if gateway.tls_cert is None else 'https'}://{here}"
