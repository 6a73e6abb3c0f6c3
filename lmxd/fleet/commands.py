"""``lmxd fleet``: many boxes, one endpoint. Neither NATS nor a web server is imported before a command needs it."""

from __future__ import annotations

from pathlib import Path

import click

from lmxd.fleet.gateway.commands import gateway
from lmxd.fleet.node.commands import node
from lmxd.terminal import Commands


@click.group(cls=Commands)
@click.option("--home", "directory", type=click.Path(path_type=Path), help="Keep all of this box's fleet here.")
@click.pass_context
def fleet(context: click.Context, directory: Path | None) -> None:
    """Many boxes, one endpoint: join boxes to a fleet, and run its parts."""


fleet.add_command(node)
fleet.add_command(gateway)
