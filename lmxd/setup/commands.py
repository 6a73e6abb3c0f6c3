"""``lmxd setup``."""

from __future__ import annotations

import getpass
import os
import sys
from contextlib import suppress
from pathlib import Path

import click

from lmxd.config import keys
from lmxd.config.file import DEFAULT_CONFIG
from lmxd.config.location import USER, user_config
from lmxd.config.names import fitting
from lmxd.errors import LmxdError
from lmxd.rpc.client import SYSTEM_SOCKET
from lmxd.setup.change import one_at_a_time
from lmxd.setup.first_answer import ask_smallest, daemon_answers, reload
from lmxd.setup.inventory import take_inventory
from lmxd.setup.local_gateway import LocalGateway
from lmxd.setup.plan import SetupPlan, planned
from lmxd.setup.rows import show_inventory, show_plan, show_use
from lmxd.terminal import say, typed


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
    user = root["user"] or os.geteuid() != 0
    here = take_inventory(directories, user_config() if user else DEFAULT_CONFIG)
    show_inventory(here)
    here.require_engine()
    plan = planned(directories, here, user=user)
    both_run = daemon_answers(plan.socket) and LocalGateway(plan.gateway).answers()
    show_plan(plan, _caller(), both_run=both_run)
    if not yes and not _agreed():
        say("nothing was written", err=True)
        return
    with one_at_a_time(plan.configuration.path):
        _carry_out(plan)


def _require_one_service(*, user: bool) -> None:
    """An ordinary user who says nothing may mean the service that is there. LmxdError ``config``."""
    if not user and os.geteuid() != 0 and SYSTEM_SOCKET.exists():
        remedy = "set it up as root: sudo lmxd setup; or say --user for another, of your own"
        raise LmxdError("config", f"lmxd runs on this machine already, on {SYSTEM_SOCKET}", remedy)


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


def _carry_out(plan: SetupPlan) -> None:
    """Write, start and ask. LmxdError if something of it fails, after a key that was made is shown."""
    plan.configuration.write(0o600 if plan.user else 0o644)
    for change in plan.services.files:
        change.write(0o644)
    gateway, keys_file = LocalGateway(plan.gateway), plan.gateway.keys_file
    key = model = None
    if keys_file is not None and plan.lacks_key:
        key = keys.add(keys_file, _caller(), admin=False)
    try:
        runs = daemon_answers(plan.socket)
        plan.services.start(daemon_runs=runs, gateway_runs=gateway.answers())
        if not gateway.answers(key):
            problem = (
                f"the gateway at {plan.gateway.listen} does not answer, or is another's that does not know the key"
            )
            raise LmxdError("daemon_unavailable", problem, "lmxd gateway says why; or choose another gateway.listen")
        if runs:
            reload(plan.socket)
        say()
        model = ask_smallest(plan.socket)
    finally:  # a key is shown once, and is not to be lost with an error
        say()
        show_use(plan, gateway, key, model)
