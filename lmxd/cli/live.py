"""Commands that go on: top. On a terminal the screen is drawn anew; elsewhere text follows text."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import click

from lmxd.cli import output
from lmxd.cli.common import answers, connect
from lmxd.cli.keyboard import END, Keyboard

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_MOVES: Final = {"up": -1, "down": 1, "page up": -10, "page down": 10, "first": -(2**31)}
"""Rows by which a key moves the instances."""


def repeat(
    draw: Callable[[Console, int | None], RenderableType], seconds: float, times: int | None, *, screen: bool
) -> None:
    """Draw every so many seconds, so many times, or until it is interrupted.

    ``draw`` is told the first row, which keys move. A terminal that cannot move its cursor, or a pipe, gets one text
    after the other, without control codes; the row is None then.
    """
    console = output.console()
    if times != 1 and console.is_terminal and not console.is_dumb_terminal:
        _redraw(draw, console, seconds, times, screen=screen)
        return
    console.print(draw(console, None))
    if times == 1:
        return
    looks = 1
    with Keyboard() as keyboard:
        while (times is None or looks < times) and keyboard.pressed(seconds) != END:
            console.print()
            console.print(draw(console, None))
            sys.stdout.flush()
            looks += 1


def _redraw(
    draw: Callable[[Console, int | None], RenderableType],
    console: Console,
    seconds: float,
    times: int | None,
    *,
    screen: bool,
) -> None:
    from rich.live import Live

    looks, first = 1, 0
    with Keyboard() as keyboard, Live(draw(console, 0), console=console, screen=screen, auto_refresh=False) as live:
        due = time.monotonic() + seconds
        while times is None or looks < times:
            key = keyboard.pressed(max(0.0, due - time.monotonic()))
            if key == END:
                return
            if key is None:
                due, looks = time.monotonic() + seconds, looks + 1
            first = max(0, first + _MOVES.get(key or "", 0))
            live.update(draw(console, first), refresh=True)


@click.command()
@click.option("--interval", "-n", type=click.FloatRange(0.1), default=1.0, show_default=True, metavar="SECONDS")
@click.option("--count", "-c", type=click.IntRange(1), help="Look so many times, then end; once, in a pipe.")
@answers
def top(interval: float, count: int | None, json_wanted: bool) -> None:
    """Devices by owner, instances and the queue, live. Arrows, j and k move; q or Ctrl-C ends it."""
    from lmxd.cli.screen import Samples, rendered

    history = Samples()
    with connect() as client:
        if json_wanted:
            output.as_json(client.overview())
            return

        def draw(console: Console, first: int | None) -> RenderableType:
            seen = client.overview()
            history.note(seen)
            return rendered(seen, history, console, first or 0, None if first is None else console.height)

        repeat(draw, interval, count if count or sys.stdout.isatty() else 1, screen=True)
