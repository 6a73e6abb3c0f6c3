"""Commands for administrators, and shell completion: stop, reload, completion."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from lmxd.cli import output
from lmxd.cli.common import answers, completes, connect
from lmxd.rpc import messages as m


@click.command()
@click.argument("instance", shell_complete=completes("instance"))
@answers
def stop(instance: str, json_wanted: bool) -> None:
    """End INSTANCE at once, with its leases and whatever it is doing."""
    with connect() as client:
        done = client.call("stop", m.Stopped, instance=instance)
    if json_wanted:
        output.as_json(done)


@click.command()
@answers
def reload(json_wanted: bool) -> None:
    """Have the daemon read its configuration again. A bad file changes nothing."""
    with connect() as client:
        done = client.call("reload", m.Reloaded)
    if json_wanted:
        output.as_json(done)
        return
    click.echo(f"reloaded {done.path}")
    for warning in done.warnings:
        click.echo(f"warning: {warning}")


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script for SHELL, to be sourced: source <(lmxctl completion bash)."""
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(context.find_root().command, {}, "lmxctl", "_LMXCTL_COMPLETE").source())


COMMANDS = (stop, reload, completion)
