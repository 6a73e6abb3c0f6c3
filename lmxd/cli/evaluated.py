"""Commands whose output a shell evaluates."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, NoReturn

import click

from lmxd.errors import EX_SOFTWARE, EX_USAGE, LmxdError
from lmxd.terminal import say

_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)
"""Signals that end a command in order, as ``timeout`` does."""


class EvaluatedCommand(click.Command):
    """A command that makes ``eval`` fail where ``--shell`` is said: by usage errors and signals, too.

    To evaluate nothing succeeds, and a script would go on with what an earlier command had set.
    """

    def make_context(self, info_name: str | None, args: list[str], *more: Any, **extra: Any) -> click.Context:
        with _failing_both("--shell" in args):
            return super().make_context(info_name, args, *more, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _failing_both(ctx.params["shell"]):
            return super().invoke(ctx)


@contextmanager
def _failing_both(evaluated: bool) -> Iterator[None]:
    """Print what fails in the shell as this process fails."""
    if not evaluated:
        yield
        return
    heard: list[int] = []

    def end(number: int, frame: FrameType | None) -> NoReturn:
        heard.append(number)
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in _ENDING}
    try:
        yield
    except BaseException as error:
        status = 128 + heard[0] if heard else _status(error)
        if status:
            say(f"(exit {status})", whole=True)
        if heard:
            raise SystemExit(status) from error  # pydantic makes an error of its own of one that it meets
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _status(error: BaseException) -> int:
    """The exit status that an error comes to."""
    match error:
        case LmxdError():
            return error.exit_status
        case click.exceptions.Exit():
            return error.exit_code
        case SystemExit():
            return error.code if isinstance(error.code, int) else int(error.code is not None)
        case KeyboardInterrupt() | click.Abort():
            return 128 + signal.SIGINT
        case click.ClickException():
            return EX_USAGE
        case _:
            return EX_SOFTWARE
