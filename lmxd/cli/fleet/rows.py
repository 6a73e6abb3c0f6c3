"""Rows of tables about nodes: of what their cards and heartbeats say. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from lmxd.cli import output
from lmxd.cli.fleet.looking import SeenNode
from lmxd.errors import LmxdError
from lmxd.fleet.reports import DeviceRoom, Heartbeat
from lmxd.rpc.explanations import Planned

NODES: Final = (
    "NODE", "STATE", ">FREE GiB", ">IDLE GiB", ">OF GiB", ">SLOTS", ">WAITING", ">EXPECTED", ">MODELS", "ADDRESS",
    "VERSION", "LABELS",
)  # fmt: skip
RUNNING: Final = ("MODEL", ">SLOTS", ">LOADING", "NODES")
PLANS: Final = ("NODE", "OUTCOME", ">EXPECTED", "WHY")
_NONE: Final = "-"
_BEST: Final = ("share", "start", "evict", "queue", "refuse")
GRANTED: Final = frozenset(_BEST[:3])
"""Outcomes of a plan by which a request is granted without waiting for others."""


def node_row(node: SeenNode) -> tuple[str, ...]:
    free, idle, of = sums(node.beat)
    beat = node.beat
    return (
        node.name,
        state(node),
        output.gib(free) if beat else _NONE,
        output.gib(idle) if idle else _NONE,
        output.gib(of) if beat else _NONE,
        busy(beat),
        str(beat.waiting) if beat and beat.waiting else _NONE,
        output.seconds(beat.eta) if beat and beat.waiting else _NONE,
        str(len(node.card.models)),
        node.card.address,
        node.card.version,
        ", ".join(f"{key}={value}" for key, value in sorted(node.card.labels.items())) or _NONE,
    )


def state(node: SeenNode) -> str:
    """Of a silent one, for how long it has been so."""
    if node.alive or node.silent is None:
        return node.state
    return f"silent for {output.seconds(node.silent)}"


def sums(beat: Heartbeat | None) -> tuple[int, int, int]:
    """(free, idle, capacity) in bytes, of all devices; those that draw from a pool are in its bytes."""
    own: Sequence[DeviceRoom] = [room for room in beat.rooms if not room.pool] if beat else []
    return sum(x.free for x in own), sum(x.idle for x in own), sum(x.capacity for x in own)


def busy(beat: Heartbeat | None) -> str:
    """Slots of ready instances that are in use, of how many."""
    ready = [x for x in beat.running if not x.loading] if beat else []
    slots = sum(x.slots for x in ready)
    return f"{slots - sum(x.vacant for x in ready)}/{slots}" if slots else _NONE


def running_rows(nodes: Iterable[SeenNode]) -> list[tuple[str, ...]]:
    """Models that are up or come up anywhere: slots in use, of how many, and on which nodes."""
    found: dict[str, list[tuple[str, int, int, bool]]] = {}
    for node in nodes:
        for x in node.beat.running if node.beat is not None and node.alive else ():
            found.setdefault(x.model, []).append((node.name, x.slots, x.vacant, x.loading))
    rows: list[tuple[str, ...]] = []
    for model, each in sorted(found.items()):
        ready = [x for x in each if not x[3]]
        slots, coming = sum(x[1] for x in ready), len({x[0] for x in each if x[3]})
        used = f"{slots - sum(x[2] for x in ready)}/{slots}" if slots else _NONE
        names = ", ".join(dict.fromkeys(x[0] for x in each))
        rows.append((model, used, str(coming) if coming else _NONE, names))
    return rows


def plan_rows(found: Mapping[str, Planned | LmxdError]) -> list[tuple[str, ...]]:
    """The answers of nodes, the best first, and those that have none last."""
    rows = []
    for node, answer in found.items():
        if isinstance(answer, LmxdError):
            rows.append((len(_BEST), 0.0, (node, "no answer", _NONE, str(answer))))
            continue
        eta = _NONE if answer.eta is None else output.seconds(answer.eta)
        shown = (node, answer.outcome, eta, answer.why)
        rows.append((_BEST.index(answer.outcome), answer.eta or 0.0, shown))
    return [shown for _, _, shown in sorted(rows)]


def summary(fleet: str, nodes: Sequence[SeenNode]) -> str:
    """The whole fleet in a sentence."""
    up = [node for node in nodes if node.state == "up"]
    free, of = (sum(sums(node.beat)[n] for node in nodes if node.alive) for n in (0, 2))
    waiting = sum(node.beat.waiting for node in nodes if node.beat is not None and node.alive)
    others = [f"{n} {word}" for word in ("draining", "silent") if (n := sum(x.state == word for x in nodes))]
    states = ", ".join([f"{len(up)} of {output.counted(len(nodes), 'node')} up", *others])
    return f"fleet {fleet}: {states}; {output.size(free)} free of {output.size(of)}; {waiting} waiting"


def as_plain(node: SeenNode) -> dict[str, Any]:
    """A node as JSON has it."""
    return {
        "node": node.name,
        "state": node.state,
        "silent": node.silent,
        "card": msgspec.to_builtins(node.card),
        "heartbeat": msgspec.to_builtins(node.beat),
    }
