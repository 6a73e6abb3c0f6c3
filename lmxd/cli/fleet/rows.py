"""Rows of tables about nodes. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from lmxd.cli import output
from lmxd.errors import LmxdError
from lmxd.fleet.seen import SeenNode, running
from lmxd.fleet.seen_users import SeenUser
from lmxd.rpc.explanations import Planned
from lmxd.text import several

NODES: Final = (
    "NODE", "STATE", ">FREE GiB", ">IDLE GiB", ">OF GiB", ">SLOTS", ">WAITING", ">EXPECTED", ">MODELS", "ADDRESS",
    "VERSION", "LABELS",
)  # fmt: skip
RUNNING: Final = ("MODEL", ">SLOTS", "NODES", "LOADING AT")
PLANS: Final = ("NODE", "OUTCOME", ">EXPECTED", "WHY")
USERS: Final = ("USER", ">WEIGHT", ">PART", ">USED GiB h", ">GiB", ">LEASES", ">WAITING", "AT")
_NONE: Final = "-"
_HOUR: Final = 3600.0
_BEST: Final = ("share", "start", "evict", "queue", "refuse")
GRANTED: Final = frozenset(_BEST[:3])
"""Outcomes of a plan by which a request is granted without waiting for others."""


def node_row(node: SeenNode) -> tuple[str, ...]:
    return (
        node.name,
        state(node),
        output.gib(node.free) if node.beat else _NONE,
        output.gib(node.idle) if node.idle else _NONE,
        output.gib(node.capacity) if node.beat else _NONE,
        slots(node.used, node.slots),
        str(node.waiting) if node.waiting else _NONE,
        _NONE if node.eta is None else output.seconds(node.eta),
        str(len(node.card.models)),
        node.card.address,
        node.card.version,
        ", ".join(f"{key}={value}" for key, value in sorted(node.card.labels.items())) or _NONE,
    )


def state(node: SeenNode) -> str:
    """In words. Of a silent one, for how long it has been so; of a draining one, whether that has come to its end."""
    if node.is_drained:
        return "drained"
    if node.alive or node.silent is None:
        return node.state
    return f"silent {output.seconds(node.silent)}"


def slots(used: int, all_: int) -> str:
    """Slots in use, of how many."""
    return f"{used}/{all_}" if all_ else _NONE


def running_rows(nodes: Iterable[SeenNode]) -> list[tuple[str, ...]]:
    """Models that are up or come up anywhere."""
    return [
        (x.model, slots(x.used, x.slots), several(x.ready, "nodes") or _NONE, several(x.loading, "nodes") or _NONE)
        for x in running(nodes)
    ]


def user_row(user: SeenUser) -> tuple[str, ...]:
    had, most = user.use, user.limits
    return (
        user.name,
        f"{most.weight:g}",
        f"{100 * user.part:.0f}%",
        f"{had.use / output.GIB / _HOUR:.2f}",
        _of(output.gib(had.bytes), None if most.max_bytes is None else output.gib(most.max_bytes)),
        _of(str(had.leases), most.max_leases),
        _of(str(had.waiting), most.max_waiting),
        several(user.nodes, "nodes") or _NONE,
    )


def _of(has: str, most: int | str | None) -> str:
    """A figure, and the most that it may be."""
    return has if most is None else f"{has}/{most}"


def plan_rows(found: Mapping[str, Planned | LmxdError]) -> list[tuple[str, ...]]:
    """The answers of nodes, the best first, and those that have none last."""
    rows: list[tuple[int, float, tuple[str, ...]]] = []
    for node, answer in found.items():
        if isinstance(answer, LmxdError):
            rows.append((len(_BEST), 0.0, (node, "no answer", _NONE, str(answer))))
            continue
        eta = _NONE if answer.eta is None else output.seconds(answer.eta)
        rows.append((_BEST.index(answer.outcome), answer.eta or 0.0, (node, answer.outcome, eta, answer.why)))
    return [shown for _, _, shown in sorted(rows)]


def drains(nodes: Iterable[SeenNode]) -> list[str]:
    """A sentence for each node that drains: what is left there, or what to do next."""
    return [_drain(node) for node in nodes if node.state == "draining"]


def _drain(node: SeenNode) -> str:
    if node.is_drained:
        return f"{node.name} is drained: nothing runs there; lmxctl fleet drain {node.name} --end has it serve again"
    left = sum(node.left.values())
    models = ", ".join(f"{model} {count}" for model, count in sorted(node.left.items()))
    said = f"{output.counted(left, 'request')} or {'lease is' if left == 1 else 'leases are'} left ({models})"
    coming = sorted(x.model for x in node.beat.running if x.loading) if node.beat else []
    rest = [
        said if left else "no request runs any more, its instances end",
        *([f"{', '.join(coming)} still loading"] if coming else []),
        *([f"{node.waiting} waiting"] if node.waiting else []),
    ]
    return f"{node.name} drains, and takes nothing new: {'; '.join(rest)}"


def summary(fleet: str, nodes: Sequence[SeenNode]) -> str:
    """The whole fleet in a sentence."""
    alive = [node for node in nodes if node.alive]
    words = Counter("drained" if node.is_drained else node.state for node in nodes)
    others = [f"{words[word]} {word}" for word in ("draining", "drained", "silent", "unheard") if words[word]]
    states = ", ".join([f"{words['up']} of {output.counted(len(nodes), 'node')} up", *others])
    free, of = sum(node.free for node in alive), sum(node.capacity for node in alive)
    waiting = sum(node.waiting for node in alive)
    return f"fleet {fleet}: {states}; {output.size(free)} free of {output.size(of)}; {waiting} waiting"
