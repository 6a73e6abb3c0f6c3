"""The whole of a fleet on one screen: what ``lmxctl fleet top`` shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console, Group, RenderableType

from lmxd.cli import output
from lmxd.cli.fleet.rows import RUNNING, USERS, drains, running_rows, slots, state, summary, user_row
from lmxd.cli.tables import Cell, text
from lmxd.fleet.seen import SeenNode
from lmxd.fleet.seen_users import SeenUser

_COLUMNS: Final = ("NODE", "STATE", "MEMORY", ">FREE GiB", ">OF GiB", ">SLOTS", ">WAITING", ">EXPECTED")
_BAR: Final = 16
_STYLES: Final = {"up": "green", "draining": "yellow", "silent": "red", "unheard": "red"}
_MOST_NOTES: Final = 4
"""Sentences about nodes that drain: the table says of the others that they do."""
_LEAST: Final = 2
"""Rows of a table that are shown however low the screen is."""


def rendered(
    fleet: str,
    nodes: Sequence[SeenNode],
    users: Sequence[SeenUser],
    console: Console,
    first: int = 0,
    height: int | None = None,
) -> RenderableType:
    """Everything. Of more nodes than ``height`` lines leave room for, those from ``first``.

    Users and models have the rest.
    """
    plain = console.encoding.lower() not in ("utf-8", "utf8")
    running, whose, notes = running_rows(nodes), [*map(user_row, users)], drains(nodes)[:_MOST_NOTES]
    fits = _Fits(nodes=len(nodes), users=len(whose), models=len(running), notes=len(notes))
    while True:
        start = max(0, min(first, len(nodes) - fits.nodes))
        rows = [_row(node, plain=plain) for node in nodes[start : start + fits.nodes]]
        left = _left(start, len(nodes) - start - fits.nodes)
        screen = Group(
            text(summary(fleet, nodes), "bold"),
            *(text(line, "yellow") for line in notes[: fits.notes]),
            text(""),
            output.filled(_COLUMNS, rows, "no nodes"),
            *([text(left)] if left else []),
            *_part(RUNNING, running, fits.models, "no model runs"),
            *(_part(USERS, whose, fits.users, "") if users else ()),
        )
        excess = 0 if height is None else len(console.render_lines(screen, pad=False)) - height
        if excess <= 0 or not fits.shrink(excess):
            return screen


@dataclass(slots=True)
class _Fits:
    """The rows of each part that are shown. Models give way first, then users, then nodes, and notes at last."""

    models: int
    users: int
    nodes: int
    notes: int

    def shrink(self, excess: int) -> bool:
        """Show some fewer. False if none can be left out."""
        if self.models > _LEAST:
            self.models = max(_LEAST, self.models - excess)
        elif self.users > _LEAST:
            self.users = max(_LEAST, self.users - excess)
        elif self.nodes > _LEAST:
            self.nodes = max(_LEAST, self.nodes - excess)
        elif self.notes:
            self.notes -= 1
        else:
            return False
        return True


def _part(headings: Sequence[str], rows: Sequence[Sequence[Cell]], shown: int, empty: str) -> list[RenderableType]:
    """A table below those before, and how many rows of it there are besides."""
    table, more = output.filled(headings, rows[:shown], empty), len(rows) - shown
    return [text(""), table, *([text(f"… {more} more")] if more else [])]


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
