"""The command that has a shell complete the words of the program that it belongs to."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from lmxd.terminal import say_lines


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script for SHELL, to be sourced: source <(lmxctl completion bash)."""
    kind, program = get_completion_class(shell), context.find_root().command
    assert kind is not None
    assert program.name is not None
    say_lines(kind(program, {}, program.name, f"_{program.name.upper()}_COMPLETE").source())
