"""Commands whose output a shell evaluates, and signals that come anywhere in them."""

from __future__ import annotations

import signal

import click
import pytest

from lmxd.cli.evaluated import EvaluatedCommand


def of_a_library(shell: bool) -> None:
    """As pydantic does while it builds a model: it makes an error of its own of each that it meets."""
    try:
        signal.raise_signal(signal.SIGTERM)
    except SystemExit as error:
        raise ValueError("no such model") from error


def test_a_signal_is_the_reason_whatever_a_library_makes_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    command = EvaluatedCommand("request", callback=of_a_library, params=[click.Option(["--shell"], is_flag=True)])
    with pytest.raises(SystemExit) as caught:
        command.main(["--shell"], standalone_mode=False)
    assert caught.value.code == 143
    assert capsys.readouterr().out == "(exit 143)\n"
