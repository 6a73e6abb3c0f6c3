"""The whole of lmxd on one screen: what ``top`` shows. Bars, sparklines and tables from what the daemon says."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from lmxd.cli import output
from lmxd.cli.output import size, text
from lmxd.devices.diagnostics import called
from lmxd.rpc.books import InstanceInfo, Status, TicketInfo
from lmxd.rpc.owners import Why

_COLOURS: Final = ("blue", "green", "magenta", "cyan", "yellow", "red")
_STEPS: Final = " ▁▂▃▄▅▆▇█"
_PLAIN_STEPS: Final = " .:-=+*#%"
_BETWEEN: Final = 6
"""Lines of blanks, headings and sums around the two tables."""
_LEAST: Final = 2
"""Rows of a table that are shown however low the screen is."""
HISTORY: Final = 60
"""Looks that a sparkline shows: a minute, at one a second."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """One look at everything that ``lmxctl top`` shows."""

    status: Status
    owners: Sequence[Why]
    instances: Sequence[InstanceInfo]
    tickets: Sequence[TicketInfo]


class Samples:
    """The figures that sparklines are drawn of: the part of each device in use, and all tokens a second."""

    def __init__(self) -> None:
        self.used: dict[str, deque[float]] = {}
        self.speed: deque[float] = deque(maxlen=HISTORY)

    def note(self, seen: Seen) -> None:
        for why in seen.owners:
            d = why.device
            used = (d.charged + d.reclaiming + d.foreign) / d.capacity if d.capacity else 0.0
            self.used.setdefault(d.id, deque(maxlen=HISTORY)).append(used)
        self.speed.append(sum(i.speed for i in seen.instances))


def sparkline(values: Sequence[float], most: float, *, plain: bool) -> str:
    """A character for each value, 0 the lowest and ``most`` the highest."""
    steps = _PLAIN_STEPS if plain else _STEPS
    top = len(steps) - 1
    return "".join(steps[max(0, min(top, round(v / most * top)))] if most > 0 else steps[0] for v in values)


def bar(why: Why, width: int, *, plain: bool) -> Text:
    """A device by owner: instances in colour, reclaiming as dots, foreign grey, margin and what is kept back light."""
    d = why.device
    parts = [(x.bytes, "." if x.exited else "#", _colour(x.instance)) for x in why.instances]
    kept = d.margin + why.withheld + d.yielded + d.beyond_pool
    parts += [(d.foreign, "%", "bright_black"), (kept, "-", "dim"), (max(0, d.headroom), " ", "")]
    drawn_bar, drawn, total = text("["), 0, 0
    for bytes_, mark, style in parts:
        total += bytes_
        end = round(width * min(total, d.capacity) / d.capacity) if d.capacity else 0
        shown = mark if plain or mark in " ." else {"#": "█", "%": "▓", "-": "░"}[mark]
        drawn_bar.append(shown * max(0, end - drawn), style)
        drawn = max(drawn, end)
    return drawn_bar.append(" " * (width - drawn)).append("]")


def _colour(instance: str) -> str:
    return _COLOURS[sum(map(ord, instance.partition("#")[0])) % len(_COLOURS)]


def rendered(
    seen: Seen, history: Samples, console: Console, first: int = 0, height: int | None = None
) -> RenderableType:
    """Everything, as wide as the console. Of more instances than ``height`` lines leave room for, those from ``first``.

    The queue has a part of the lines in any case.
    """
    plain = console.encoding.lower() not in ("utf-8", "utf8")
    above: list[RenderableType] = [_head(seen)]
    for why in seen.owners:
        above += _device(why, history, console.width, plain=plain)
    below = [text(f"warning: {w}", "yellow") for w in (*seen.status.warnings, *seen.status.broken_invariants)]
    shown, waiting = len(seen.instances), len(seen.tickets)
    if height is not None:
        taken = len(console.render_lines(Group(*above, *below), pad=False))
        shown, waiting = _shared(max(0, height - taken - _BETWEEN), shown, waiting)
    first = max(0, min(first, len(seen.instances) - shown))
    instances = _instances(seen.instances, first, shown, history.speed, plain=plain)
    return Group(*above, text(""), instances, text(""), _queue(seen, waiting), *below)


def _shared(lines: int, instances: int, tickets: int) -> tuple[int, int]:
    """(rows of instances, rows of the queue) in so many lines: as many as there are, or each at least a part."""
    least = min(tickets, max(_LEAST, lines // 3))
    shown = min(instances, max(_LEAST, lines - least))
    return shown, min(tickets, max(_LEAST, lines - shown))


def _head(seen: Seen) -> Text:
    s = seen.status
    state = "draining" if s.draining else "up"
    off = "" if s.admission else ", admission is OFF"
    said = f"lmxd {s.version}, {state} for {output.seconds(s.uptime)}: {s.instances} instances, {s.leases} leases, "
    return text(f"{said}{s.waiting} of {s.queue_depth} places in the queue taken{off}", "bold")


def _device(why: Why, history: Samples, width: int, *, plain: bool) -> list[RenderableType]:
    d = why.device
    name = called(d)
    if d.unavailable is not None:
        remedy = [text(f"  remedy: {d.remedy}")] if d.remedy else []
        return [text(""), text(f"{name} {d.name}: unavailable: {d.unavailable}", "red"), *remedy]
    shared = output.shared(d.views) if d.pool is None else f" (of {d.pool})"
    title = f"{name}{shared} {d.name}: {size(max(0, d.headroom))} free of {size(d.capacity)}"
    past = sparkline(history.used.get(d.id, ()), 1.0, plain=plain)
    legend = text("  ")
    for x in why.instances:
        mark = "reclaiming " if x.exited else ""
        legend.append_text(text(f"{mark}{x.instance} {size(x.bytes)}  ", _colour(x.instance)))
    kept = ("kept", why.withheld + d.yielded)
    for label, bytes_ in (("foreign", d.foreign), ("margin", d.margin), kept, (f"others of {d.pool}", d.beyond_pool)):
        if bytes_:
            legend.append(f"{label} {size(bytes_)}  ", "dim")
    legend.append(f"free {size(max(0, d.headroom))}")
    return [text(""), text(f"{title}  {past}"), bar(why, max(20, width - 2), plain=plain), legend]


def _instances(
    found: Sequence[InstanceInfo], first: int, shown: int, speed: Sequence[float], *, plain: bool
) -> RenderableType:
    if not found:
        return text("no instances")
    table = output.grid(("INSTANCE", "STATE", ">SLOTS", ">TOKENS/S", ">CTX", ">BYTES", ">LEASES"))
    for i in found[first : first + shown]:
        table.add_row(
            text(i.instance, _colour(i.instance)),
            text(output.doing(i)),
            f"{i.processing}/{i.slots}" if i.ctx else "-",
            f"{i.speed:.0f}" if i.phase == "ready" and i.ctx else "-",
            str(i.ctx) if i.ctx else "-",
            size(sum(i.charged.values())),
            str(len(i.leases)),
        )
    past = sparkline(speed, max(speed, default=0.0), plain=plain)
    left = [
        f"{count} more {where}" for count, where in ((first, "above"), (len(found) - first - shown, "below")) if count
    ]
    more = f"… {', '.join(left)} (↑ ↓)  " if left else ""
    return Group(table, text(f"{more}{sum(i.speed for i in found):.0f} tokens/s  {past}"))


def _queue(seen: Seen, shown: int) -> RenderableType:
    if not seen.tickets:
        return text("nobody waits")
    table: Table = output.grid((">PLACE", "MODEL", "USER", ">WAITED", ">EXPECTED", "INSTANCE OR REASON"))
    for t in seen.tickets[:shown]:
        table.add_row(*map(text, (*output.queued(t), output.reason(t))))
    more = len(seen.tickets) - shown
    return Group(table, text(f"… {more} more")) if more else table
