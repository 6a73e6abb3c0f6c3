"""Commands that show what there is: status, ps, queue, devices, models, logs, version."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lmxd import __version__
from lmxd.cli import output
from lmxd.cli.common import answers, completes, connect
from lmxd.cli.devices import notes, table
from lmxd.cli.live import repeat
from lmxd.cli.output import size
from lmxd.devices.diagnostics import fault
from lmxd.errors import LmxdError
from lmxd.rpc.books import Device, LeaseInfo, ModelInfo, TicketInfo
from lmxd.rpc.client import Client
from lmxd.rpc.messages import PROTOCOL
from lmxd.terminal import say
from lmxd.text import short_id

if TYPE_CHECKING:
    from rich.console import RenderableType

_OTHERS = "another's"
QUEUE = ("TICKET", ">PLACE", "MODEL", "USER", ">CLASS", ">WAITED", ">EXPECTED", "INSTANCE OR REASON")


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
    say(
        f"{found.instances} instances, {found.leases} leases, {found.waiting} of {found.queue_depth} places in the"
        f" queue taken{'' if found.admission else ', admission is OFF'}"
    )
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
    found = client.instances().instances
    several = len({i.engine for i in found if i.engine}) > 1
    columns = ("INSTANCE", *_if(several, "ENGINE"), "PHASE", ">CTX", "SLOTS", "PROMISED", "MEASURED", "PORT", "DOING",
               "LEASES (USER)")  # fmt: skip
    rows = [
        (
            i.instance,
            *_if(several, i.engine or "-"),
            i.phase,
            str(i.ctx),
            f"{sum(x.slots for x in i.leases)}/{i.slots}",
            _bytes(i.promised),
            _bytes(i.measured),
            _port(i.endpoint),
            "-" if i.phase not in ("ready", "starting") else output.doing(i),
            " ".join(map(lease_label, i.leases)) or "-",
        )
        for i in found
    ]
    return output.filled(columns, rows, "no instances")


def _if(shown: bool, cell: str) -> tuple[str, ...]:
    """The cell of a column that is not always there."""
    return (cell,) if shown else ()


def lease_label(x: LeaseInfo) -> str:
    return f"{x.lease} ({output.whose(x.uid, x.user)})" if x.lease else f"{_OTHERS} {size(x.bytes)}"


def _bytes(by_device: dict[str, int]) -> str:
    """The bytes of an instance by device, a dash if not measured yet. The larger of both columns is charged."""
    return " ".join(f"{short_id(device)} {size(n) if n else '-'}" for device, n in by_device.items())


def _port(endpoint: str | None) -> str:
    if endpoint is None:
        return "-"
    port = endpoint.rpartition(":")[2]
    return port if port.isdecimal() else "unix"


@click.command()
@answers
def queue(json_wanted: bool) -> None:
    """Requests that start or wait, in order, and what they wait for."""
    with connect() as client:
        found = client.queue()
    if json_wanted:
        output.as_json(found)
        return
    rows = [ticket_row(t) for t in found.tickets]
    output.table(QUEUE, rows, "nobody waits")


def ticket_row(t: TicketInfo) -> tuple[str, ...]:
    place, model, user, waited, expected = output.queued(t)
    return t.ticket or _OTHERS, place, model, user, str(t.priority), waited, expected, output.reason(t)


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
    rows = [
        (
            x.model,
            *_if(several, x.engine),
            str(x.ctx),
            str(x.slots),
            _places(x.bytes),
            x.basis or "-",
            str(x.running),
            _problem(x),
        )
        for x in found.models
    ]
    columns = ("MODEL", *_if(several, "ENGINE"), ">CTX", ">SLOTS", "BYTES", "BASIS", ">RUNNING", "PROBLEM")
    output.table(columns, rows, "no models are configured")


def _places(by_device: dict[str, int]) -> str:
    """The bytes of a model by device, those of several alike said once."""
    alike = {n: [short_id(device) for device, same in by_device.items() if same == n] for n in by_device.values()}
    where = {n: devices[0] if len(devices) == 1 else f"each of {len(devices)}" for n, devices in alike.items()}
    return " or ".join(f"{size(n)} on {on}" for n, on in where.items()) or "-"


def _problem(model: ModelInfo) -> str:
    again = f" (tried again in {output.seconds(model.retry_in)})" if model.problem and model.retry_in else ""
    return f"{model.problem}{again}" if model.problem else "-"


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


COMMANDS = (status, ps, queue, devices, models, logs, version)
