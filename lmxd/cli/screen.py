"""The whole of lmxd on one screen: what ``top`` shows. Bars, sparklines and tables from what the daemon says."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.text import Text

from lmxd.cli import output
from lmxd.cli.devices import names, yielding
from lmxd.cli.output import gib, size
from lmxd.cli.tables import GAP, text
from lmxd.devices.diagnostics import called as named
from lmxd.rpc.books import InstanceInfo
from lmxd.rpc.overview import Overview
from lmxd.rpc.owners import Why
from lmxd.text import known_as

_COLOURS: Final = ("blue", "green", "magenta", "cyan", "yellow", "red")
_STEPS: Final = " ▁▂▃▄▅▆▇█"
_PLAIN_STEPS: Final = " .:-=+*#%"
_BETWEEN: Final = 6
"""Lines of blanks, headings and sums around the two tables."""
_LEAST: Final = 2
"""Rows of a table that are shown however low the screen is."""
_WIDEST: Final = 200
"""Columns of a bar at the most: a pipe has any number of them."""
_MORE: Final = 20
"""Cells for the sum of the owners that a legend has no room for."""
HISTORY: Final = 60
"""Looks that a sparkline shows: a minute, at one a second."""


class Samples:
    """The figures that sparklines are drawn of: the part of each device in use, and all tokens a second."""

    def __init__(self) -> None:
        self.used: dict[str, deque[float]] = {}
        self.speed: deque[float] = deque(maxlen=HISTORY)

    def note(self, seen: Overview) -> None:
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
    seen: Overview, history: Samples, console: Console, first: int = 0, height: int | None = None
) -> RenderableType:
    """Everything, as wide as the console. Of more instances than ``height`` lines leave room for, those from ``first``.

    The queue has a part of the lines in any case. Where the devices take more than half, each has one line.
    """
    plain = console.encoding.lower() not in ("utf-8", "utf8")
    called = names(why.device for why in seen.owners)
    head, width = text(_head(seen), "bold"), console.width
    devices = [line for why in seen.owners for line in _device(why, history, called, width, plain=plain)]
    below = [text(f"moving from {x.before}, {output.contexts(x)}: {output.whereto(x)}") for x in seen.moving]
    below += [text(f"warning: {w}", "yellow") for w in (*seen.status.warnings, *seen.status.broken_invariants)]
    if height is not None and _height(console, *devices) > height // 2:
        devices = [text(""), *(_title(why, history, called, plain=plain) for why in seen.owners)]
    shown, waiting = len(seen.instances), len(seen.queue)
    if height is not None:
        lines = max(0, height - _height(console, head, *devices, *below) - _BETWEEN)
        least = min(waiting and _height(console, _queue(seen, waiting)), max(_LEAST, lines // 3))
        shown = _fitting(console, lines - least, shown, lambda n: _instances(seen.instances, first, n))
        left = lines - _height(console, _instances(seen.instances, first, shown))
        waiting = _fitting(console, left, waiting, lambda n: _queue(seen, n))
    first = max(0, min(first, len(seen.instances) - shown))
    sums = _sums(seen.instances, first, shown, history.speed, plain=plain)
    instances = [_instances(seen.instances, first, shown), *([sums] if seen.instances else [])]
    return Group(head, *devices, text(""), *instances, text(""), _queue(seen, waiting), *below)


def _height(console: Console, *parts: RenderableType) -> int:
    """The lines that parts of the screen take."""
    return len(console.render_lines(Group(*parts), pad=False))


def _fitting(console: Console, lines: int, most: int, part: Callable[[int], RenderableType]) -> int:
    """The rows of a table that go into so many lines, its headings beside them: as many as there are, or a few."""
    least, rows = min(most, 1), min(most, max(_LEAST, lines))
    while least < rows:
        middle = (least + rows + 1) // 2
        if _height(console, part(middle)) <= lines + 1:
            least = middle
        else:
            rows = middle - 1
    return rows


def _head(seen: Overview) -> str:
    s = seen.status
    state = "draining" if s.draining else "up"
    return f"lmxd {s.version}, {state} for {output.seconds(s.uptime)}: {output.summary(s)}"


def _title(why: Why, history: Samples, called: Mapping[str, str], *, plain: bool) -> Text:
    """A device in a line."""
    d = why.device
    name = named(d)
    if d.unavailable is not None:
        return text(f"{name} {d.name}: unavailable: {d.unavailable}", "red")
    views = output.listed([known_as(view, called) for view in d.views])
    shared = f" (shared by {views})" if views else "" if d.pool is None else f" (of {d.pool})"
    title = f"{name}{shared} {d.name}: {size(max(0, d.headroom))} free of {size(d.capacity)}"
    return text(f"{title}  {sparkline(history.used.get(d.id, ()), 1.0, plain=plain)}".rstrip())


def _device(why: Why, history: Samples, called: Mapping[str, str], width: int, *, plain: bool) -> list[RenderableType]:
    """A device with its bytes by owner, and the yields that keep some of them free."""
    d, title = why.device, _title(why, history, called, plain=plain)
    if d.unavailable is not None:
        return [text(""), title, *([text(f"  remedy: {d.remedy}")] if d.remedy else [])]
    yields = [text(f"  {yielding(each, called[d.id])}") for each in d.yields]
    return [text(""), title, bar(why, max(20, min(width, _WIDEST) - 2), plain=plain), _legend(why, width), *yields]


def _legend(why: Why, width: int) -> Text:
    """The owners of a device's bytes, and the rest of it. Of more owners than two lines hold, the largest."""
    d = why.device
    kept = why.withheld + d.yielded
    rest = {"foreign": d.foreign, "margin": d.margin, "kept": kept, f"others of {d.pool}": d.beyond_pool}
    ends = [text(f"{label} {size(n)}", "dim") for label, n in rest.items() if n]
    ends.append(text(f"free {size(max(0, d.headroom))}"))
    owners = [
        text(f"{'reclaiming ' if x.exited else ''}{x.instance} {size(x.bytes)}", _colour(x.instance))
        for x in why.instances
    ]
    room, shown = 2 * (width - 4) - sum(x.cell_len + GAP for x in ends), 0
    while shown < len(owners) and (room := room - owners[shown].cell_len - GAP) > _MORE:
        shown += 1
    if more := why.instances[shown:]:
        ends.insert(0, text(f"{len(more)} more {size(sum(x.bytes for x in more))}"))
    return text("  ") + text(" " * GAP).join([*owners[:shown], *ends])


def _instances(found: Sequence[InstanceInfo], first: int, shown: int) -> RenderableType:
    first = max(0, min(first, len(found) - shown))
    rows = [
        (
            text(i.instance, _colour(i.instance)),
            f"{i.processing}/{i.slots}" if i.ctx else "-",
            f"{i.speed:.0f}" if i.phase == "ready" and i.ctx else "-",
            output.context(i),
            gib(sum(i.charged.values())),
            _leases(i),
            output.doing(i),
        )
        for i in found[first : first + shown]
    ]
    return output.filled(("INSTANCE", ">SLOTS", ">TOKENS/S", ">CTX", ">GiB", ">LEASES", "STATE"), rows, "no instances")


def _sums(found: Sequence[InstanceInfo], first: int, shown: int, speed: Sequence[float], *, plain: bool) -> Text:
    """The instances that are not in sight, and the tokens of all."""
    past = sparkline(speed, max(speed, default=0.0), plain=plain)
    left = [
        f"{count} more {where}" for count, where in ((first, "above"), (len(found) - first - shown, "below")) if count
    ]
    more = f"… {', '.join(left)} (↑ ↓)  " if left else ""
    return text(f"{more}{sum(i.speed for i in found):.0f} tokens/s  {past}".rstrip())


def _leases(i: InstanceInfo) -> str:
    """The number of leases, their slots if those are more, and whose: the first of several users."""
    count, slots = len(i.leases), sum(x.slots for x in i.leases)
    users = list(dict.fromkeys(output.whose(x.uid, x.user) for x in i.leases if x.uid is not None))
    return (f"{count}, {slots} slots" if slots > count else f"{count}") + (
        f" ({', '.join([users[0], '…'][: len(users)])})" if users else ""
    )


def _queue(seen: Overview, shown: int) -> RenderableType:
    headings = (">PLACE", "MODEL", "WHO", ">WAITED", ">EXPECTED", "INSTANCE OR REASON")
    rows = [(*output.queued(t), output.reason(t)) for t in seen.queue[:shown]]
    table, more = output.filled(headings, rows, "nobody waits"), len(seen.queue) - shown
    return Group(table, text(f"… {more} more")) if more else table
