"""Text for a terminal: nothing of it moves the cursor, changes a title, or looks like another line."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import click

from lmxd import tracebacks
from lmxd.errors import EX_SOFTWARE, EX_USAGE, LmxdError
from lmxd.folding import folded
from lmxd.text import visible

_USUAL: Final = 80
"""Columns of a terminal that does not say how many it has."""

_EVERY: Final = 5.0
"""Seconds after which somebody who waits is told of it."""

_SENTENCE: Final = 1000
"""Characters: no command's first sentence has as many."""


def say(line: str = "", *, err: bool = False, whole: bool = False) -> None:
    """Print one line. What the terminal cannot show is escaped, so that it always can be printed.

    On a terminal it is folded between words, unless it is to stay ``whole``, as what is copied or run.
    """
    most = None if whole else columns(err=err)
    lines = [visible(line)] if most is None else folded(visible(line), most, indent=2)
    for each in lines:
        click.echo(_printable(each, err=err), err=err)


def columns(*, err: bool = False) -> int | None:
    """The width of the terminal that standard output, or standard error, is; None for a pipe, which has none."""
    stream = sys.stderr if err else sys.stdout
    try:
        if not stream.isatty():
            return None
        said = os.environ.get("COLUMNS", "")
        told = int(said) if said.isascii() and said.isdecimal() else 0
        return told or os.get_terminal_size(stream.fileno()).columns or _USUAL
    except (OSError, ValueError, AttributeError):  # a terminal of another kind, or no file at all
        return None


def show(text: str, *, faint: bool = False) -> None:
    """Print a piece of a text that goes on, with its line breaks and tabs. All else that moves a cursor is escaped."""
    shown = _printable("\n".join("\t".join(map(visible, line.split("\t"))) for line in text.split("\n")), err=False)
    click.echo(click.style(shown, dim=True) if faint else shown, nl=False)
    sys.stdout.flush()


def say_over(line: str, *, last: bool) -> None:
    """Print a line of progress over the one before, to standard error. ``last``: the next line comes below it."""
    click.echo(f"\r{_printable(visible(line), err=True)}" + ("\n" if last else ""), err=True, nl=False)


class StillLooking:
    """Says on standard error, every few seconds, that a search goes on, and where it is."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._count = 0
        self._next = clock() + _EVERY

    def __call__(self, place: Path) -> None:
        """The search comes to a place."""
        self._count += 1
        if (now := self._clock()) >= self._next:
            self._next = now + _EVERY
            say(f"still looking: {self._count:,} files and directories so far, now {place}", err=True)


def _printable(text: str, *, err: bool) -> str:
    """The text with escapes for what the encoding of standard output, or of standard error, lacks."""
    encoding = getattr(sys.stderr if err else sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def typed(prompt: str) -> str | None:
    """The next line of standard input, asked for on a terminal; None at its end, or when it is interrupted."""
    try:
        return input(visible(prompt) if sys.stdin.isatty() else "")
    except (EOFError, KeyboardInterrupt):
        return None


def say_lines(text: str, *, err: bool = False) -> None:
    """Print a text of our own that has several lines, as it is. Nothing in it came from outside, unless escaped."""
    for line in text.removesuffix("\n").split("\n"):
        say(line, err=err, whole=True)


class Commands(click.Group):
    """A group of commands whose errors are said as all else is. Usage errors exit with EX_USAGE, not click's 2.

    Its help has the whole first sentence of each command, where click breaks off. ``elsewhere``: commands by name, each
    MODULE:ATTRIBUTE, that are imported when they are asked for: a program is not to be started with all of them.
    """

    def __init__(self, *args: Any, elsewhere: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._elsewhere = elsewhere or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*self.commands, *self._elsewhere})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self._elsewhere:
            module, _, attribute = self._elsewhere[cmd_name].partition(":")
            found = getattr(importlib.import_module(module), attribute)
            assert isinstance(found, click.Command)
            return found
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        known = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        rows = [(name, each.get_short_help_str(_SENTENCE)) for name, each in known if each is not None]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **{**kwargs, "standalone_mode": False})
        except click.exceptions.Abort:
            raise SystemExit(130) from None
        except click.ClickException as error:
            _say_usage(error)
            raise SystemExit(EX_USAGE) from error
        except LmxdError as error:
            say(f"{self.name}: {error}", err=True)
            raise SystemExit(error.exit_status) from error
        except Exception as error:
            if sys.excepthook is not sys.__excepthook__:
                raise  # this process has a log, which takes it
            for line in tracebacks.lines(error):
                say(line, err=True)
            say("this was not foreseen: report it", err=True)
            raise SystemExit(EX_SOFTWARE) from error


def _say_usage(error: click.ClickException) -> None:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        say_lines(error.format_message(), err=True)
        return
    context = getattr(error, "ctx", None)
    if context is not None:
        say_lines(context.get_usage(), err=True)
        say(f"Try '{context.command_path} {context.help_option_names[0]}' for help.", err=True)
        say(err=True)
    whole = f"Error: {error.format_message()}"
    if isinstance(error, click.MissingParameter):  # which lists the choices, and says nothing that was typed
        say_lines(whole.expandtabs(4), err=True)
    else:
        say(whole, err=True)
