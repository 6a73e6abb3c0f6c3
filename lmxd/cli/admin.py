"""Commands for administrators: stop, pin, drain, yield, reload."""

from __future__ import annotations

import time
from typing import Final

import click
from pydantic import BaseModel

from lmxd.cli import output
from lmxd.cli.common import answers, completes, connect
from lmxd.cli.wishes import Duration, SizeWish
from lmxd.errors import LmxdError
from lmxd.rpc.administrators import Drained
from lmxd.terminal import say
from lmxd.text import known_as

_LOOK: Final = 0.2
"""Seconds between two looks at what still runs."""


@click.command()
@click.argument("instance", shell_complete=completes("instance"))
@answers
def stop(instance: str, json_wanted: bool) -> None:
    """End INSTANCE at once, with its leases and whatever it is doing."""
    with connect() as client:
        done = client.stop(instance)
    if json_wanted:
        output.as_json(done)


@click.command()
@click.argument("instance", shell_complete=completes("instance"))
@click.option("--off", is_flag=True, help="As others again.")
@answers
def pin(instance: str, off: bool, json_wanted: bool) -> None:
    """Have INSTANCE neither evicted nor reaped, for as long as it runs."""
    with connect() as client:
        done = client.pin(instance, pin=not off)
    if json_wanted:
        output.as_json(done)


@click.command()
@click.option("--now", is_flag=True, help="End everything at once, with its leases and whatever it is doing.")
@click.option("--no-wait", is_flag=True, help="Do not wait until everything has ended.")
@click.option("--end", is_flag=True, help="Instead: admit requests again.")
@answers
def drain(now: bool, no_wait: bool, end: bool, json_wanted: bool) -> None:
    """Admit nothing new, end what nobody has a lease on, and wait until everything has ended."""
    if end and (now or no_wait):
        raise LmxdError("invalid_params", "--end goes with none of the others", "lmxctl drain --end")
    with connect() as client:
        done = client.drain(now=now, end=end)
        if done.instances and not (no_wait or end or json_wanted):
            say(f"waiting for {_left(done)}; lmxctl drain --end admits requests again", err=True)
        while done.instances and not (no_wait or end):
            time.sleep(_LOOK)
            found = client.status()
            done = Drained(draining=found.draining, instances=found.instances, leases=found.leases)
    if json_wanted:
        output.as_json(done)
    elif end:
        say("requests are admitted again")
    else:
        say(f"draining: {_left(done)} are left")


def _left(found: Drained) -> str:
    return f"{output.counted(found.instances, 'instance')} and {output.counted(found.leases, 'lease')}"


@click.command("yield")
@click.argument("size", type=SizeWish(), required=False)
@click.option("--device", shell_complete=completes("device"), help="May be left out where there is only one.")
@click.option(
    "--for", "lasts", type=Duration(), default="1h", show_default=True, help="After this it may be used again."
)
@click.option("--end", "ended", metavar="ID", help="Instead: use the bytes of that yield again.")
@answers
def yield_(size: int | None, device: str | None, lasts: float, ended: str | None, json_wanted: bool) -> None:
    """Keep SIZE of a device (12G) free for others, for a while.

    Idle instances end at once, pinned ones too; holders of leases are asked to release them. Models
    that were pinned or kept come back afterwards.
    """
    if (size is None) == (ended is None):
        raise LmxdError("invalid_params", "give a SIZE, or --end and the id of a yield", "lmxctl yield 12G --for 2h")
    with connect() as client:
        if ended is not None:
            done: BaseModel = client.unyield(ended)
            text = f"{ended} is over"
        else:
            assert size is not None
            made = client.yield_(size, device=device, lasts=lasts)
            done, much = made, output.size(made.bytes)
            device = known_as(made.device, made.called)
            text = f"{made.id}: {much} of {device} for {output.seconds(made.lasts)}"
            text += "" if made.free >= made.bytes else f"; {output.size(made.free)} are free, the rest is asked for"
    if json_wanted:
        output.as_json(done)
    else:
        say(text)


@click.command()
@answers
def reload(json_wanted: bool) -> None:
    """Have the daemon read its configuration again. A bad file changes nothing."""
    with connect() as client:
        done = client.reload()
    if json_wanted:
        output.as_json(done)
        return
    say(f"reloaded {done.path}")
    for warning in done.warnings:
        say(f"warning: {warning}")
