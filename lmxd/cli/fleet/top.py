"""The whole of a fleet on one screen: what ``lmxctl fleet top`` shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Console, Group, RenderableType

from lmxd.cli import output
from lmxd.cli.fleet.rows import RUNNING, drains, running_rows, slots, state, summary
from lmxd.cli.tables import Cell, text
from lmxd.fleet.seen import SeenNode

_COLUMNS: Final = ("NODE", "STATE", "MEMORY", ">FREE GiB", ">OF GiB", ">SLOTS", ">WAITING", ">EXPECTED")
_BAR: Final = 16
_STYLES: Final = {"up": "green", "draining": "yellow", "silent": "red"}
_MOST_NOTES: Final = 4
"""Sentences about nodes that drain: the table says of the others that they do."""
_LEAST: Final = 2
"""Rows of a table that are shown however low the screen is."""


def rendered(
    fleet: str, nodes: Sequence[SeenNode], console: Console, first: int = 0, height: int | None = None
) -> RenderableType:
    """Everything. Of more nodes than ``height`` lines leave room for, those from ``first``; models have the rest."""
    plain = console.encoding.lower() not in ("utf-8", "utf8")
    running, shown = running_rows(nodes), len(nodes)
    models, notes = len(running), drains(nodes)[:_MOST_NOTES]
    while True:
        start = max(0, min(first, len(nodes) - shown))
        rows = [_row(node, plain=plain) for node in nodes[start : start + shown]]
        left, more = _left(start, len(nodes) - start - shown), len(running) - models
        screen = Group(
            text(summary(fleet, nodes), "bold"),
            *(text(line, "yellow") for line in notes),
            text(""),
            output.filled(_COLUMNS, rows, "no nodes"),
            *([text(left)] if left else []),
            text(""),
            output.filled(RUNNING, running[:models], "no model runs"),
            *([text(f"… {more} more")] if more else []),
        )
        excess = 0 if height is None else len(console.render_lines(screen, pad=False)) - height
        if excess <= 0 or (models <= _LEAST and shown <= _LEAST and not notes):
            return screen
        if models <= _LEAST and shown <= _LEAST:
            notes = notes[:-1]
        elif models > _LEAST:
            models = max(_LEAST, models - excess)
        else:
            shown = max(_LEAST, shown - excess)


def _left(above: int, below: int) -> str:
    said = ", ".join(f"{count} more {where}" for count, where in ((above, "above"), (below, "below")) if count)
    return f"… {said} (↑ ↓)" if said else ""


def _row(node: SeenNode, *, plain: bool) -> tuple[Cell, ...]:
    of = node.capacity
    return (
        node.name,
        text(state(node), _STYLES[node.state]),
        bar(node.free, node.idle, of, plain=plain) if of else "-",
        output.gib(node.free) if of else "-",
        output.gib(of) if of else "-",
        slots(node.used, node.slots),
        str(node.waiting) if node.waiting else "-",
        "-" if node.eta is None else output.seconds(node.eta),
    )


def bar(free: int, idle: int, of: int, *, plain: bool) -> Cell:
    """The memory of a node: in use, of instances that nobody uses, free."""
    marks = "#=." if plain else "█▒░"
    idle_cells = round(_BAR * min(idle, of) / of)
    free_cells = min(_BAR - idle_cells, round(_BAR * min(free, of) / of))
    used = _BAR - idle_cells - free_cells
    return text(marks[0] * used + marks[1] * idle_cells + marks[2] * free_cells)
