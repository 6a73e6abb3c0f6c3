"""Commands that show what there is: status, ps, queue, devices, models, logs, version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import click

from lmxd import __version__
from lmxd.cli import output
from lmxd.cli.common import answers, completes, connect
from lmxd.cli.devices import notes, table, yielding
from lmxd.cli.live import repeat
from lmxd.cli.output import size
from lmxd.devices.diagnostics import fault
from lmxd.errors import LmxdError
from lmxd.rpc.books import Device, InstanceInfo, LeaseInfo, ModelInfo, MovingInfo, TicketInfo, VariantInfo
from lmxd.rpc.client import Client
from lmxd.rpc.messages import PROTOCOL
from lmxd.terminal import say
from lmxd.text import known_as

if TYPE_CHECKING:
    from rich.console import RenderableType

_OTHERS: Final = "another's"
_NONE: Final = "-"
QUEUE = ("TICKET", ">PLACE", "MODEL", "WHO", ">CLASS", ">WAITED", ">EXPECTED", "INSTANCE OR REASON")
PS = (
    "INSTANCE", "ENGINE", "PHASE", ">CTX", ">SLOTS", "DEVICE", ">PROMISED GiB", ">MEASURED GiB", ">PORT",
    "LEASES (WHO)", "DOING",
)  # fmt: skip
MODELS = ("MODEL", "ENGINE", ">CTX", ">SLOTS", "WITH", ">GiB", "OF", "BASIS", ">RUNNING", "NOTE")


@click.command()
@answers
def status(json_wanted: bool) -> None:
    """The daemon and its devices at a glance."""
    with connect() as client:
        found = client.status()
    if json_wanted:
        output.as_json(found)
        return
    state = "draining" if found.draining else "up"
    engine = f", engine {found.engine}" if len(found.engines) < 2 else ""
    say(f"lmxd {found.version}, {state} for {output.seconds(found.uptime)}{engine}")
    for name, at in found.engines.items() if not engine else ():
        say(f"engine {name}: {at}")
    say(output.summary(found))
    _print_devices(found.devices)
    for warning in found.warnings + found.broken_invariants:
        say(f"warning: {warning}")


@click.command()
@answers
def devices(json_wanted: bool) -> None:
    """Bytes by device: capacity, margin, foreign, charged, headroom."""
    with connect() as client:
        found = client.devices()
    if json_wanted:
        output.as_json(found)
    else:
        _print_devices(found.devices)
        for d in found.devices:
            if d.unavailable is not None:
                say(fault(d))


def _print_devices(found: list[Device]) -> None:
    output.table(*table(found), "no devices")
    for note in notes(found):
        say(note)


@click.command()
@click.option("--watch", "-w", is_flag=True, help="Go on showing them, until Ctrl-C.")
@click.option("--interval", "-n", type=click.FloatRange(0.1), default=1.0, show_default=True, help="Seconds, for -w.")
@answers
def ps(watch: bool, interval: float, json_wanted: bool) -> None:
    """Instances and their leases."""
    with connect() as client:
        if json_wanted:
            output.as_json(client.instances())
        else:
            repeat(lambda *_: _running(client), interval, None if watch else 1, screen=False)


def _running(client: Client) -> RenderableType:
    found = client.instances()
    several = len({i.engine for i in found.instances if i.engine}) > 1
    rows = [instance_row(i, found.called, several=several) for i in found.instances]
    rows += [moving_row(x) for x in found.moving]
    return output.filled(PS, rows, "no instances")


def instance_row(i: InstanceInfo, called: Mapping[str, str], *, several: bool = False) -> tuple[str, ...]:
    """``called``: devices' names by id; ``several``: there are several engines.

    The larger of the bytes promised and measured is charged.
    """
    measured = sum(i.measured.values())
    return (
        i.instance,
        i.engine or _NONE if several else _NONE,
        i.phase,
        output.context(i),
        f"{sum(x.slots for x in i.leases)}/{i.slots}",
        ", ".join(known_as(device, called) for device in i.promised),
        output.gib(sum(i.promised.values())),
        output.gib(measured) if measured else _NONE,
        _port(i.endpoint),
        ", ".join(lease_labels(i.leases)) or _NONE,
        output.doing(i) if i.phase in ("ready", "starting") else _NONE,
    )


def moving_row(x: MovingInfo) -> tuple[str, ...]:
    """A lease between two instances: it has had ``x.before``."""
    return (
        x.before, _NONE, "moving", output.contexts(x), str(x.slots), *[_NONE] * 4, lease_label(x), output.whereto(x)
    )  # fmt: skip


def lease_labels(found: Sequence[LeaseInfo]) -> Iterator[str]:
    """The leases of each holder, who is named once: "l-1 l-2 (key anna)"; others' one by one."""
    by_holder: dict[str, list[str]] = {}
    for x in found:
        if x.lease:
            by_holder.setdefault(output.whose(x.uid, x.user), []).append(x.lease)
    yield from (f"{' '.join(ids)} ({whose})" for whose, ids in by_holder.items())
    yield from (lease_label(x) for x in found if not x.lease)


def lease_label(x: LeaseInfo) -> str:
    return f"{x.lease} ({output.whose(x.uid, x.user)})" if x.lease else f"{_OTHERS} {size(x.bytes)}"


def _port(endpoint: str | None) -> str:
    """The port of an endpoint that speaks TCP; others are sockets beside the daemon's."""
    port = (endpoint or "").rpartition(":")[2]
    return port if port.isdecimal() else _NONE


@click.command()
@answers
def queue(json_wanted: bool) -> None:
    """Requests that start or wait, in order, and what they wait for."""
    with connect() as client:
        found = client.queue()
    if json_wanted:
        output.as_json(found)
        return
    if waiting := [t for t in found.tickets if t.position]:
        wait = "waits" if len(waiting) == 1 else "wait"
        say(f"{len(waiting)} of at most {found.depth} requests {wait}, {most_wanted(waiting)}")
    output.table(QUEUE, [ticket_row(t) for t in found.tickets], "nobody waits")
    for each in found.yields:
        say(yielding(each, known_as(each.device, found.called)))


def most_wanted(waiting: Sequence[TicketInfo]) -> str:
    """The bytes that waiting requests want of a device, from the least to the most."""
    least, most = (size(pick(t.bytes for t in waiting)) for pick in (min, max))
    return f"for {least}" + ("" if least == most else f" to {most}") + (" each" if len(waiting) > 1 else "")


def ticket_row(t: TicketInfo) -> tuple[str, ...]:
    place, model, user, waited, expected = output.queued(t)
    of_class = str(t.priority) if t.priority else _NONE
    return t.ticket or _OTHERS, place, model, user, of_class, waited, expected, output.reason(t)


@click.command()
@answers
def models(json_wanted: bool) -> None:
    """Models that can be requested, and the bytes a new instance would be charged."""
    with connect() as client:
        found = client.models()
    if json_wanted:
        output.as_json(found)
        return
    several = len({x.engine for x in found.models}) > 1
    rows = [row for x in found.models for row in model_rows(x, found.called, several=several)]
    output.table(MODELS, rows, "no models are configured")


def model_rows(x: ModelInfo, called: Mapping[str, str], *, several: bool = False) -> list[tuple[str, ...]]:
    """A model, and below it its variants, which are the same instances.

    ``called``: devices' names by id; ``several``: there are several engines.
    """
    sizes, places = _places(x.bytes, called)
    running = str(x.running) if x.running else _NONE
    engine = x.engine if several else _NONE
    having = ", ".join(x.traits) or _NONE
    own = (x.model, engine, _contexts(x), str(x.slots), having, sizes, places, x.basis or _NONE, running, _note(x))
    return [own, *((f"  {v.name}", *[_NONE] * (len(MODELS) - 2), _changes(v) or _NONE) for v in x.variants)]


def _places(by_device: Mapping[str, int], called: Mapping[str, str]) -> tuple[str, str]:
    """The bytes of a model and the devices, of which those that take the same of it are said together."""
    alike = {
        output.gib(n): [known_as(device, called) for device, same in by_device.items() if same == n]
        for n in by_device.values()
    }
    places = [found[0] if len(found) == 1 else f"each of {len(found)}" for found in alike.values()]
    return " or ".join(alike) or _NONE, " or ".join(places) or _NONE


def _note(model: ModelInfo) -> str:
    again = f" (tried again in {output.seconds(model.retry_in)})" if model.problem and model.retry_in else ""
    return f"{model.problem}{again}" if model.problem else "; ".join(_said(model)) or _NONE


def _said(model: ModelInfo) -> Iterator[str]:
    if model.elastic is not None and model.elastic.learned_from:
        yield f"starts {output.tokens(model.elastic.start)} (p90 of {model.elastic.learned_from})"
    if changes := _changes(model):
        yield changes


def _contexts(model: ModelInfo) -> str:
    """The context of its leases, or the first and the last that they can have."""
    if model.elastic is None:
        return str(model.ctx)
    return f"{output.tokens(model.elastic.steps[0])}…{output.tokens(model.elastic.steps[-1])}"


def _changes(of: ModelInfo | VariantInfo) -> str:
    """The parameters of requests that are changed at the gateway."""
    sets = f"sets {', '.join(of.set)}" if of.set else ""
    strips = f"strips {', '.join(of.strip)}" if of.strip else ""
    return "; ".join(words for words in (sets, strips) if words)


@click.command()
@click.argument("instance", shell_complete=completes("instance"))
@click.option("--lines", "-n", type=click.IntRange(1, 10_000), default=100, show_default=True, help="How many.")
@answers
def logs(instance: str, lines: int, json_wanted: bool) -> None:
    """The last lines of INSTANCE's log; also when it is gone."""
    with connect() as client:
        found = client.logs(instance, lines=lines)
    if json_wanted:
        output.as_json(found)
    else:
        for line in found.lines:
            say(line.expandtabs())


@click.command()
@answers
def version(json_wanted: bool) -> None:
    """Versions of lmxctl and of the daemon."""
    try:
        with connect() as client:
            server = client.hello().server
    except LmxdError:
        server = "not running"
    if json_wanted:
        output.as_json({"lmxctl": __version__, "daemon": server, "protocol": PROTOCOL})
    else:
        say(f"lmxctl {__version__}, daemon: {server}")
