"""A model is copied from one node to another: it is asked how far that is, until it is there."""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

from lmxd.cli.fleet.looking import FleetView
from lmxd.errors import LmxdError
from lmxd.fleet.calls import CallName, Copying, CopyParams
from lmxd.fleet.seen import SeenNode, models_of
from lmxd.terminal import say, say_over

_LOOK: Final = 0.5
"""Seconds between two questions how far a copy is."""
_MIB: Final = 2**20


def source(nodes: Sequence[SeenNode], model: str, to: str, peer: str | None) -> SeenNode:
    """The node that a model is copied from: the one that is named, else the first that has it. LmxdError."""
    target = next((node for node in nodes if node.name == to), None)
    known = ", ".join(node.name for node in nodes) or "none"
    if target is None:
        raise LmxdError("invalid_params", f"there is no node {to}", f"there are: {known}")
    if _has(target, model):
        raise LmxdError("invalid_params", f"{to} has {model} already", "copy another, or to another node")
    having = [node for node in nodes if _has(node, model) and node.alive]
    if peer is not None:
        having = [node for node in having if node.name == peer]
    if not having:
        what = f"no node that is up has a model {model}" if peer is None else f"{peer} has no model {model}, or is away"
        offering = nodes if peer is None else [node for node in nodes if node.name == peer]
        raise LmxdError("unknown_model", what, models_of(offering))
    return having[0]


def _has(node: SeenNode, model: str) -> bool:
    return any(each.model == model for each in node.card.models)


def copied(view: FleetView, model: str, to: str, peer: SeenNode, *, quiet: bool) -> Copying:
    """The copy when it is there. ``quiet``: its progress is not shown. LmxdError: why there is none."""
    params = CopyParams(id=secrets.token_hex(8), model=model, peer=peer.name, address=peer.card.address)
    show: Callable[[Copying], None] = (lambda now: None) if quiet else _Shown()
    while True:
        now = view.ask(to, CallName.COPY, params, Copying)
        show(now)
        if now.finished:
            return now
        time.sleep(_LOOK)


def profile(done: Copying) -> list[str]:
    """The profile that is to be written by hand, as YAML, of which JSON's values are a part."""
    keys = (f"    {key}: {json.dumps(value)}" for key, value in done.by_hand.items())
    return [f"  {json.dumps(done.model)}:", *keys]


def instead(done: Copying) -> str:
    """The reason why a profile is written by hand, before what is to be done."""
    if "engine" in done.by_hand:
        return f"models_from serves GGUF files alone. To have it served on {done.node}"
    return f"It is served from a directory of models_from, without settings. To have them on {done.node}"


class _Shown:
    """Progress on standard error: over itself on a terminal, else a line for each step."""

    def __init__(self) -> None:
        self._step = ""
        self._moving = False

    def __call__(self, now: Copying) -> None:
        if now.total and now.step == "copying" and sys.stderr.isatty():
            say_over(f"{now.done / _MIB:,.0f} of {now.total / _MIB:,.0f} MiB", last=False)
            self._moving = True
            return
        if now.step != self._step and not now.finished:
            if self._moving:
                say(err=True)
            self._moving, self._step = False, now.step
            say(f"{now.node}: {now.step}", err=True)
        elif now.finished and self._moving:
            say_over(f"{now.total / _MIB:,.0f} of {now.total / _MIB:,.0f} MiB", last=True)
