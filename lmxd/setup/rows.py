"""The words of ``lmxd setup``: rows with a name at their left, in 80 columns."""

from __future__ import annotations

import shlex
from typing import Final

from lmxd.config.section import GIB
from lmxd.folding import folded
from lmxd.setup.inventory import Inventory
from lmxd.setup.local_gateway import LocalGateway
from lmxd.setup.plan import SetupPlan
from lmxd.setup.services import typed_here
from lmxd.terminal import say
from lmxd.text import visible

_WIDTH: Final = 80
_INDENT: Final = 11
_SHOWN: Final = 5
"""Models that are named."""


def row(name: str, words: str, *, err: bool = False) -> None:
    """Say something under a name, in lines of 80 columns. A path that is longer stays whole."""
    for line in folded(f"{name:<{_INDENT}}{visible(words)}", _WIDTH, indent=_INDENT):
        say(line, err=err)


def _command(name: str, words: str) -> None:
    """Say a command under a name, in one line: it is copied."""
    say(f"{name:<{_INDENT}}{words}", whole=True)


def show_inventory(here: Inventory) -> None:
    """Say what this machine has."""
    for device in here.devices:
        row("device", f"{device.ref}: {device.name}, {device.unavailable or f'{device.capacity / GIB:.1f} GiB'}")
    for name, binary in here.engines.items():
        called = f"{name}, " if here.config.engines else ""
        row("engine", f"{called}llama-server {binary.version}: {binary.path}")
    more = f" and {len(here.models) - _SHOWN} more" if len(here.models) > _SHOWN else ""
    row("models", f"{', '.join(here.models[:_SHOWN]) or 'none more'}{more}")


def show_plan(plan: SetupPlan, caller: str, *, both_run: bool) -> None:
    """Say what is amiss, and what will be written and started.

    ``caller``: the name for a first key. ``both_run``: daemon and gateway run already.
    """
    for sentence in plan.amiss:
        row("amiss", sentence, err=True)
    for change in plan.changes:
        for line in change.lines():
            say(line, whole=True)
    if plan.lacks_key:
        row("keys", f"one for {caller}, its hash in {plan.gateway.keys_file}")
    row("start", plan.services.plan(both_run=both_run))


def show_use(plan: SetupPlan, gateway: LocalGateway, key: str | None, model: str | None) -> None:
    """Say what other programs need to know. ``key``: the one that was made; ``model``: the one that answered."""
    shown = key or "as it was shown when it was made"
    if plan.gateway.anonymous:
        shown = "none is needed"
    row("base URL", f"{gateway.url}/v1")
    row("key", shown)
    if key is None and not plan.gateway.anonymous:
        _command("new key", f"{typed_here('lmxd')}{' --user' if plan.user else ''} key NAME")
    row("dashboard", f"{gateway.url}/")
    _command("ask", f'{typed_here("lmxctl")} ask {shlex.quote(model or "MODEL")} "QUESTION"')
    if plan.services.end:
        _command("end", plan.services.end)
    say()
    say("For Open WebUI (Admin Panel, Settings, Connections), and for OpenAI's clients:")
    say(f"  export OPENAI_BASE_URL={gateway.url}/v1", whole=True)
    say(f"  export OPENAI_API_BASE_URL={gateway.url}/v1", whole=True)
    say(f"  export OPENAI_API_KEY={key or 'KEY'}", whole=True)
    say("In a container: docs/containers.md; from another machine: docs/network.md.")
