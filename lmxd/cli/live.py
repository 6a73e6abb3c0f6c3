"""Commands that go on: top. On a terminal the screen is drawn anew; elsewhere text follows text."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from lmxd.cli import output
from lmxd.cli.common import answers, connect
from lmxd.rpc.client import Client

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from lmxd.cli.screen import Seen


def repeat(draw: Callable[[Console], RenderableType], seconds: float, times: int | None, *, screen: bool) -> None:
    """Draw every so many seconds, so many times, or until it is interrupted.

    A terminal that cannot move its cursor, or a pipe, gets one text after the other, without control codes.
    """
    console, ended, looks = output.console(), threading.Event(), 1
    if times != 1:
        # Not an exception, which might come while the screen is being taken over, and leave it so.
        signal.signal(signal.SIGINT, lambda *_: ended.set())
    if times != 1 and console.is_terminal and not console.is_dumb_terminal:
        from rich.live import Live

        with Live(draw(console), console=console, screen=screen, auto_refresh=False) as live:
            while (times is None or looks < times) and not ended.wait(seconds):
                live.update(draw(console), refresh=True)
                looks += 1
        return
    console.print(draw(console))
    while (times is None or looks < times) and not ended.wait(seconds):
        console.print()
        console.print(draw(console))
        sys.stdout.flush()
        looks += 1


@click.command()
@click.option("--interval", "-n", type=click.FloatRange(0.1), default=1.0, show_default=True, metavar="SECONDS")
@click.option("--count", "-c", type=click.IntRange(1), help="Look so many times, then end; once, in a pipe.")
@answers
def top(interval: float, count: int | None, json_wanted: bool) -> None:
    """Devices by owner, instances and the queue, live. Ctrl-C ends it."""
    from lmxd.cli.screen import Samples, rendered

    history = Samples()
    with connect() as client:
        if json_wanted:
            seen = look(client)
            parts: dict[str, Any] = {
                "status": seen.status,
                "owners": seen.owners,
                "instances": seen.instances,
                "queue": seen.tickets,
            }
            output.as_json({name: output.plain(value) for name, value in parts.items()})
            return

        def draw(console: Console) -> RenderableType:
            seen = look(client)
            history.note(seen)
            return rendered(seen, history, console)

        repeat(draw, interval, count if count or sys.stdout.isatty() else 1, screen=True)


def look(client: Client) -> Seen:
    from lmxd.cli.screen import Seen

    status = client.status()
    return Seen(
        status=status,
        owners=[client.why(d.id) for d in status.devices],
        instances=client.instances().instances,
        tickets=client.queue().tickets,
    )


COMMANDS = (top,)
