"""The options of commands that request a lease, and the bar that shows the wait."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import click

from lmxd.cli import output
from lmxd.errors import LmxdError
from lmxd.folding import cut, width
from lmxd.rpc.messages import Granted
from lmxd.rpc.notifications import Progress
from lmxd.terminal import say
from lmxd.text import visible

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

F = TypeVar("F", bound=Callable[..., Any])
ENDPOINT_SOCKET: Final = "LMXD_ENDPOINT_SOCKET"
"""In the environment of who has a lease on a Unix socket: its path."""
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class SizeWish(click.ParamType[int]):
    """An option that takes 9G, 500M or plain bytes; units are binary."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"([0-9]{1,20}(?:\.[0-9]+)?)([KMGT]?)(?:i?B)?", str(value), re.IGNORECASE)
        found = int(float(match[1]) * _UNITS[match[2].upper()]) if match else 0
        if not found:
            self.fail(f"{value!r} is no size: write 9G, 500M or a number of bytes", param, ctx)
        return found


class Duration(click.ParamType[float]):
    """An option that takes 2h, 30m, 90s or plain seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = re.fullmatch(r"([0-9]{1,20}(?:\.[0-9]+)?)([smhd]?)", str(value))
        found = float(match[1]) * _SECONDS[match[2]] if match else 0.0
        if not found:
            self.fail(f"{value!r} is no time: write 2h, 30m, 90s or a number of seconds", param, ctx)
        return found


def _with(*options: Callable[[F], F]) -> Callable[[F], F]:
    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


wish_options = _with(
    click.option("--ctx", type=click.IntRange(1), help="Tokens that a slot must hold; the model's by default."),
    click.option("--slots", type=click.IntRange(1), help="Concurrent generations wanted; 1 by default."),
    click.option("--priority", type=click.IntRange(-100, 100), help="Class in the queue; the model's by default."),
    click.option("--exclusive", is_flag=True, help="An instance that nobody else has a lease on."),
    click.option(
        "--min-gpu-layers",
        type=click.IntRange(0, 4096),
        metavar="N",
        help="Of a model with fit: auto, wait until so many layers are whole on the GPU.",
    ),
    click.option(
        "--deadline", type=Duration(), metavar="TIME", help="Refuse at once if it cannot be granted within this."
    ),
)
"""Options that go to the daemon as they are."""

wait_options = _with(
    click.option("--wait", type=click.FloatRange(0), metavar="SECONDS", help="Wait no longer than this in the queue."),
    click.option("--no-wait", is_flag=True, help="Do not wait: fail at once if there is no room."),
)


def waiting_time(wait: float | None, no_wait: bool) -> float | None:
    """Seconds to wait in the queue, None for as long as it takes."""
    if no_wait and wait:
        raise LmxdError("invalid_params", "--wait and --no-wait exclude each other", "give one of them")
    return 0 if no_wait else wait


_BAR: Final = 40
_BESIDE: Final = 17
"""Columns of a wait beside its words and its bar: what turns, the part, the time, and spaces."""


class WaitBar:
    """Shows on a terminal where the request stands, with a bar once its instance loads; shows nothing in a pipe.

    ``hint``: what would spare the wait, asked once it begins.
    """

    def __init__(self, hint: Callable[[], str | None] = lambda: None) -> None:
        self._shown: Bars | None = None
        self._hint: Callable[[], str | None] | None = hint

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bars

            self._bar = BarColumn()
            columns = (
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                self._bar,
                TextColumn("{task.fields[part]}"),
            )
            self._shown = Bars(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True)
            self._task = self._shown.add_task("asking", total=None, part="")
            self._shown.start()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._shown is not None:
            self._shown.stop()

    def show(self, progress: Progress) -> None:
        if self._shown is None:
            return
        if self._hint is not None and progress.state == "queued":
            hint, self._hint = self._hint(), None
            if hint is not None:
                say(f"hint: {hint}", err=True)
        part, most = progress.loaded, max(1, self._shown.console.width - _BESIDE)
        words = cut(visible(standing(progress)), most)
        self._bar.bar_width = min(_BAR, most - width(words))
        self._shown.update(
            self._task,
            description=words,
            total=None if part is None else 1.0,
            completed=part or 0.0,
            part="" if part is None else f"{part:.0%}",
        )


def standing(progress: Progress) -> str:
    """The place of a request in the queue, in words."""
    due = "" if progress.eta is None else f", expected in {output.seconds(progress.eta)}"
    if progress.state == "starting":
        return f"{'starting' if progress.loaded is None else 'loading'} {progress.instance}{due}"
    used = {t.instance for t in progress.turns}
    others = [name for name in progress.waits_for if name not in used]
    awaited = f", {output.awaited(others).replace('waits for', 'waiting for')}" if others else ""
    turns = "".join(f"; {turn}" for turn in output.turns(progress.turns))
    return f"number {progress.position} in the queue{due}{awaited}{turns}"


def environment(lease: Granted) -> dict[str, str]:
    """The environment that a program needs to use a lease."""
    env = {
        "OPENAI_BASE_URL": lease.base_url,
        "OPENAI_API_KEY": lease.api_key,
        "LMXD_LEASE": lease.lease,
        "LMXD_MODEL": lease.upstream_name or lease.model,
    }
    return env | ({ENDPOINT_SOCKET: lease.socket} if lease.socket else {})


def asked_to_yield(params: dict[str, Any]) -> str:
    """A ``lmxd.yield`` notification in words."""
    if params.get("within") is None:
        return f"{params['lease']} may be kept after all"
    return f"please release {params['lease']} within {output.seconds(params['within'])}: {params['why']}"
