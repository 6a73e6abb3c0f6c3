"""The output of lmxctl: sentences for people, JSON for scripts, and errors with their remedy and exit status."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn

from pydantic import BaseModel

from lmxd.errors import LmxdError
from lmxd.rpc.books import Device, InstanceInfo, MovingInfo, Status, TicketInfo
from lmxd.rpc.shortfalls import HolderInfo, ShortfallInfo, SwapInfo, TurnInfo
from lmxd.terminal import columns, say, say_lines
from lmxd.text import known_as, sentence_among, several

if TYPE_CHECKING:  # rich takes longer to import than a request to be granted: only who shows a table does
    from rich.console import Console, RenderableType

    from lmxd.cli.tables import Cell

GIB = 2**30
MIB = 2**20
_NEVER: Final = 10**9
"""Seconds of an idle_timeout that the configuration calls never."""
_PIPE: Final = 10**6
"""Columns of a pipe, which has none: more than any row takes."""
_FEW: Final = 3
"""Holders that are named; of more, their number is told."""
_LOG: Final = 10
"""Lines of a failed instance's log that an error shows."""


def size(n: int) -> str:
    """Bytes in a sentence, with three digits or more."""
    return f"{n / GIB:.1f} GiB" if abs(n) >= 10 * GIB else f"{gib(n)} GiB"


def gib(n: int) -> str:
    """Bytes in a column of which the heading names the unit. The least of bytes is not shown as none."""
    return "<0.01" if 0 < n < GIB / 200 else f"{n / GIB:.2f}"


def sizes(by_device: Mapping[str, int], called: Mapping[str, str]) -> str:
    """Bytes by device, of which ``called`` are the names."""
    return ", ".join(f"{size(n)} on {known_as(device, called)}" for device, n in by_device.items())


def context(i: InstanceInfo) -> str:
    """The tokens of an instance's context, and those that its leases may grow to: "4096", or "4k/64k".

    Of a cache for all, which may have more than a lease, its tokens: "16k".
    """
    if i.unified:
        return tokens(i.ctx)
    if i.ctx_most is None:
        return str(i.ctx) if i.ctx else "-"
    return f"{tokens(i.ctx)}/{tokens(i.ctx_most)}"


def seconds(s: float) -> str:
    s = round(s)
    if s < 60:
        return f"{s:.0f} s"
    if s < 3600:
        return f"{s // 60:.0f} min {s % 60:.0f} s"
    return f"{s // 3600:.0f} h {s % 3600 // 60:.0f} min"


def tokens(n: int) -> str:
    """A context, short where it is a round one: 4096 is 4k."""
    return f"{n // 1024}k" if n and n % 1024 == 0 else str(n)


def contexts(x: MovingInfo) -> str:
    """The contexts of a lease that moves: the one that it had, and the one that it is to have."""
    return f"{tokens(x.ctx)}→{tokens(x.ctx_wanted)}"


def whereto(x: MovingInfo) -> str:
    """How far a lease that moves has come."""
    return "waits" if x.instance is None else f"to {x.instance}"


def counted(number: int, what: str) -> str:
    """Things and their number: "1 lease", "2 leases"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def summary(s: Status) -> str:
    """The instances, the leases and the queue in a sentence."""
    running = f"{counted(s.instances, 'instance')}, {counted(s.leases, 'lease')}"
    off = "" if s.admission else ", admission is OFF"
    return f"{running}, {s.waiting} of {s.queue_depth} places in the queue taken{off}"


def as_json(value: BaseModel | dict[str, Any], *, err: bool = False) -> None:
    """Machine-readable, one object, in ASCII: JSON's own escapes stand for all else."""
    shown = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    say_lines(json.dumps(shown, indent=2).replace("\x7f", "\\u007f"), err=err)


def plain(value: BaseModel | Sequence[BaseModel]) -> Any:
    """The value as JSON has it."""
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else [x.model_dump(mode="json") for x in value]


def filled(headings: Sequence[str], rows: Iterable[Sequence[Cell]], empty: str) -> RenderableType:
    """A table of text, or what is said in its place where there are no rows."""
    from lmxd.cli.tables import Table, text

    lines = list(rows)
    return Table(headings, lines) if lines else text(empty)


def console() -> Console:
    """A pipe has no width: nothing is folded for it. A terminal of few letters is told all."""
    from rich.console import Console

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    return Console(width=columns() or _PIPE)


def table(headings: Sequence[str], rows: Iterable[Sequence[Cell]], empty: str) -> None:
    console().print(filled(headings, rows, empty))


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
    return f"{t.instance} {goes_on(t)}"


def turns(found: Sequence[TurnInfo]) -> list[str]:
    """The same of each instance; of many, in one sentence."""
    if len(found) <= _FEW:
        return [*map(turn, found)]
    most = seconds(max(t.closes_in for t in found))
    return [f"{len(found)} instances are in use by others, for {most} more at the most"]


def goes_on(t: TurnInfo) -> str:
    """The same without its name."""
    if t.unused:
        return f"is leased, but unused: until that lease ends, in {seconds(t.closes_in)} at the latest"
    fair = ", as its users had less lately" if t.fair else ""
    until = f"serves others for up to {seconds(t.closes_in)} more{fair}" if t.closes_in > 0 else "finishes what it does"
    return f"{until} (a swap: {t.price:.1f} s of loading)"


def reason(t: TicketInfo) -> str:
    """The instance that starts for a request, or why it waits."""
    if t.instance:
        return t.instance
    own = any(name.rpartition("#")[0] == t.model for name in t.waits_for)
    if own or not (t.turns or t.shortfalls):
        return awaited(t.waits_for, t.slots) if t.waits_for else "-"
    named = {h.name for s in t.shortfalls for h in s.holders[:_FEW]}
    others = [each for each in t.turns if each.instance not in named]
    return "; ".join([*turns(others), *(blocked(s, t.turns) for s in t.shortfalls)])


def awaited(names: Sequence[str], slots: int = 1) -> str:
    """The instances that a request waits for, of which it wants so many slots; or the quota, a sentence of its own."""
    what = f"{slots} slots of " if slots > 1 else ""
    return sentence_among(names) or f"waits for {what}{several(names)}"


def seen(d: Device, bytes_: int, size: Callable[[int], str] = size) -> str:
    """Bytes in use on a device, as far as they can be seen."""
    if not d.lower_bound:
        return size(bytes_)
    return f"at least {size(bytes_)}" if bytes_ else "not known"


def whose(uid: int | None, user: str | None) -> str:
    """The key for which the gateway asked, or the uid that asked."""
    return "-" if uid is None else f"key {user}" if user else str(uid)


def queued(t: TicketInfo) -> tuple[str, str, str, str, str]:
    """Place, model (of another's, its bytes), user, waited, expected."""
    place = "starting" if t.position == 0 else str(t.position)
    expected = "-" if t.eta is None else seconds(t.eta)
    return place, t.model or size(t.bytes), whose(t.uid, t.user), seconds(t.waited), expected


def blocked(s: ShortfallInfo, turns: Sequence[TurnInfo] = ()) -> str:
    """The reason why a demand does not fit on one device: who has its bytes, and for how long yet."""
    if s.unavailable:
        return f"{name_of(s)} is unavailable: {s.unavailable}"
    goes = {t.instance: f", which {goes_on(t)}" for t in turns}
    return f"{size(s.need)} on {name_of(s)}, of which {size(max(0, s.have))} free; held by {holders(s.holders, goes)}"


def holders(found: Sequence[HolderInfo], goes: Mapping[str, str]) -> str:
    """The holders of bytes with their bytes. Of many, their number: "15 instances, 21.0 GiB"."""
    instances = [h for h in found if "#" in h.name]
    few = len(instances) <= _FEW
    parts = [f"{h.name} {size(h.bytes)}{goes.get(h.name, '')}" for h in instances] if few else []
    parts += [] if few else [f"{len(instances)} instances, {size(sum(h.bytes for h in instances))}"]
    parts += [f"{h.name} {size(h.bytes)}" for h in found if h not in instances]
    return "; ".join(parts) or "nobody"


def name_of(s: ShortfallInfo) -> str:
    """The device for people, and the devices that its bytes are of, if it is a pool."""
    names = [known_as(device, s.called) for device in (s.device, *s.views)]
    return f"{names[0]} (shared by {listed(names[1:])})" if s.views else names[0]


def listed(names: Sequence[str]) -> str:
    """Names as in a sentence: "a, b and c"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def fail(error: LmxdError, *, json_wanted: bool) -> NoReturn:
    """Say what is wrong and what would help, and exit by sysexits. Its figures are in its message."""
    if json_wanted:
        shown = {"error": {"code": error.code, "message": error.message, "remedy": error.remedy, **error.data}}
        as_json(shown)
    else:
        say(f"lmxctl: {error.message}", err=True)
        failure = error.data.get("failure")
        for line in _failure(failure, error.message) if failure else ():
            say(f"  {line}", err=True)
        if error.remedy:
            say(f"  remedy: {error.remedy}", err=True)
    sys.exit(error.exit_status)


def _failure(failure: dict[str, Any], message: str) -> list[str]:
    """The code of a failed launch, and the last lines of its log that are not in the message already."""
    said = [line for line in failure["log"][-_LOG:] if line.strip() and line.strip() not in message]
    return [f"reason: {failure['code']}", *(f"| {line}" for line in said)]
