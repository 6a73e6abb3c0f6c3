"""``lmxd fleet``: many boxes, one endpoint. Neither NATS nor a web server is imported before a command needs it."""

from __future__ import annotations

from pathlib import Path

import click

from lmxd.fleet.home import FleetHome
from lmxd.terminal import Commands


@click.group(cls=Commands)
@click.option("--home", "directory", type=click.Path(path_type=Path), help="Keep all of this box's fleet here.")
@click.pass_context
def fleet(context: click.Context, directory: Path | None) -> None:
    """Many boxes, one endpoint: join boxes to a fleet, and run its parts."""


def home_of(context: click.Context) -> FleetHome:
    """The home that a command of the fleet is about. Its options may stand before and behind its name."""
    found = next((x.params["directory"] for x in _above(context) if "directory" in x.params), None)
    return FleetHome.at(found, user=bool(context.find_root().params["user"]))


def _above(context: click.Context) -> list[click.Context]:
    return [context, *(_above(context.parent) if context.parent else [])]
