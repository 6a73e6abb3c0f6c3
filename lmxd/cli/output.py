"""Tables for people, JSON for scripts, and errors with their remedy and exit status: the output of lmxctl."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn

from pydantic import BaseModel

from lmxd.errors import LmxdError
from lmxd.rpc.books import Device, InstanceInfo, TicketInfo
from lmxd.rpc.messages import ShortfallInfo, SwapInfo, TurnInfo
from lmxd.terminal import say, say_lines
from lmxd.text import short_id, visible

if TYPE_CHECKING:  # rich takes longer to import than a request to be granted: only who shows a table does
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

GIB = 2**30
MIB = 2**20
_NEVER: Final = 10**9
"""Seconds of an idle_timeout that the configuration calls never."""


def size(n: int) -> str:
    """Bytes for people: MiB below ten GiB, so that small differences show."""
    return f"{n / GIB:.1f} GiB" if abs(n) >= 10 * GIB else f"{n / MIB:.0f} MiB"


def sizes(by_device: dict[str, int]) -> str:
    return ", ".join(f"{size(n)} on {short_id(device)}" for device, n in by_device.items())


def seconds(s: float) -> str:
    if s < 60:
        return f"{s:.0f} s"
    if s < 3600:
        return f"{s // 60:.0f} min {s % 60:.0f} s"
    return f"{s // 3600:.0f} h {s % 3600 // 60:.0f} min"


def as_json(value: BaseModel | dict[str, Any], *, err: bool = False) -> None:
    """Machine-readable, one object, in ASCII: JSON's own escapes stand for all else."""
    shown = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    say_lines(json.dumps(shown, indent=2).replace("\x7f", "\\u007f"), err=err)


def plain(value: BaseModel | Sequence[BaseModel]) -> Any:
    """The value as JSON has it."""
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else [x.model_dump(mode="json") for x in value]


def text(words: str, style: str = "") -> Text:
    """Words for a table or a screen: every character is visible, and none is markup."""
    from rich.text import Text

    return Text(visible(words), style)


def grid(columns: Sequence[str]) -> Table:
    """An empty table; a column whose heading begins with ``>`` is aligned to the right."""
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        right = column.startswith(">")
        shown.add_column(text(column.lstrip(">")), justify="right" if right else "left", overflow="fold")
    return shown


def filled(columns: Sequence[str], rows: Iterable[Sequence[str]], empty: str) -> Table | Text:
    """A table of text, or what is said in its place where there are no rows."""
    shown, lines = grid(columns), list(rows)
    for line in lines:
        shown.add_row(*map(text, line))
    return shown if lines else text(empty)


def console() -> Console:
    """A pipe has no width: nothing is folded for it."""
    from rich.console import Console

    found = Console()
    return found if found.is_terminal else Console(width=max(found.width, 200))


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], empty: str) -> None:
    console().print(filled(columns, rows, empty))


def doing(instance: InstanceInfo) -> str:
    """The work of an instance in one word, such as "loading 40%"."""
    if instance.phase == "starting" and instance.loaded is not None:
        return f"loading {instance.loaded:.0%}"
    if instance.phase != "ready":
        return instance.phase
    if instance.yield_in is not None:
        return f"to yield in {seconds(max(0.0, instance.yield_in))}"
    if instance.swap is not None:
        return swap(instance.swap)
    if instance.ctx == 0:
        return f"held: {instance.name}" if instance.name else "held"
    if instance.busy:
        return "busy"
    return f"idle {seconds(instance.idle)}/{_until(instance.idle_timeout)}"


def _until(idle_timeout: float | None) -> str:
    if idle_timeout is None:
        return "pinned"
    return "never" if idle_timeout >= _NEVER else seconds(idle_timeout)


def swap(s: SwapInfo) -> str:
    """The model that an instance is to make way for, and the time."""
    if s.unused:
        return f"unused, makes way for {s.model} within {seconds(s.closes_in)}"
    if s.closes_in > 0:
        return f"serves for {seconds(s.closes_in)}, then makes way for {s.model}"
    return f"finishes, then makes way for {s.model}"


def turn(t: TurnInfo) -> str:
    """The time for which an instance that a request waits for goes on, and the cost of the swap."""
    if t.unused:
        return f"{t.instance} is leased, but unused: until that lease ends, in {seconds(t.closes_in)} at the latest"
    fair = ", as its users had less lately" if t.fair else ""
    until = f"serves others for up to {seconds(t.closes_in)} more{fair}" if t.closes_in > 0 else "finishes what it does"
    return f"{t.instance} {until} (a swap: {t.price:.1f} s of loading)"


def reason(t: TicketInfo) -> str:
    """The instance that starts for a request, or why it waits."""
    if t.instance:
        return t.instance
    awaited = ", ".join(t.waits_for)
    if any(name.rpartition("#")[0] == t.model for name in t.waits_for):
        return f"waits for {awaited}"
    return "; ".join([*map(turn, t.turns), *map(blocked, t.shortfalls)]) or (f"waits for {awaited}" if awaited else "-")


def seen(d: Device, bytes_: int, size: Callable[[int], str] = size) -> str:
    """Bytes in use on a device, as far as they can be seen."""
    if not d.lower_bound:
        return size(bytes_)
    return f"at least {size(bytes_)}" if bytes_ else "not known"


def whose(uid: int | None, user: str | None) -> str:
    """The uid that asked, and the user it asked for where that is somebody else: "alice/1000"."""
    return "-" if uid is None else f"{user}/{uid}" if user else str(uid)


def queued(t: TicketInfo) -> tuple[str, str, str, str, str]:
    """Place, model (of another's, its bytes), user, waited, expected."""
    place = "starting" if t.position == 0 else str(t.position)
    expected = "-" if t.eta is None else seconds(t.eta)
    return place, t.model or size(t.bytes), whose(t.uid, t.user), seconds(t.waited), expected


def blocked(s: ShortfallInfo) -> str:
    """The reason why a demand does not fit on one device."""
    if s.unavailable:
        remedy = f" (remedy: {s.remedy})" if s.remedy else ""
        return f"{short_id(s.device)} is unavailable: {s.unavailable}{remedy}"
    holders = ", ".join(f"{h.name} {size(h.bytes)}" for h in s.holders)
    free = f"free {size(max(0, s.have))} of {size(s.ceiling)}"
    return f"{size(s.need)} on {short_id(s.device)}{shared(s.views)}, {free}; held by {holders or 'nobody'}"


def shared(views: Sequence[str]) -> str:
    """The devices that a pool's bytes are of, in brackets; nothing for a device that is no pool."""
    return f" (shared by {listed([*map(short_id, views)])})" if views else ""


def listed(names: Sequence[str]) -> str:
    """Names as in a sentence: "a, b and c"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def fail(error: LmxdError, *, json_wanted: bool) -> NoReturn:
    """Say what is wrong and what would help, and exit by sysexits."""
    if json_wanted:
        shown = {"error": {"code": error.code, "message": error.message, "remedy": error.remedy, **error.data}}
        as_json(shown)
    else:
        say(f"lmxctl: {error.message}", err=True)
        for line in _figures(error):
            say(f"  {line}", err=True)
        if error.remedy:
            say(f"  remedy: {error.remedy}", err=True)
    sys.exit(error.exit_status)


def _figures(error: LmxdError) -> list[str]:
    lines = []
    for s in error.data.get("shortfalls", []):
        if s.get("unavailable"):
            continue  # the message says why
        where = f"{short_id(s['device'])}{shared(s.get('views', []))}"
        lines.append(f"{where}: needs {size(s['need'])}, free {size(max(0, s['have']))}")
        lines += [f"  {h['name']} has {size(h['bytes'])} ({h['phase']})" for h in s["holders"]]
    lines += [turn(TurnInfo.model_validate(t)) for t in error.data.get("turns", [])]
    failure = error.data.get("failure")
    if failure:
        lines.append(f"reason: {failure['code']}")
        lines += [f"| {line}" for line in failure["log"][-10:]]
    return lines
