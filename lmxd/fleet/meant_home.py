"""The home that a command of the fleet is about."""

from __future__ import annotations

from pathlib import Path

import click

from lmxd.fleet.home import FleetHome


def home_of(context: click.Context) -> FleetHome:
    """The home that a command of ``lmxd fleet`` is about: that of --home, else the user's or the system's."""
    return FleetHome.at(directory_of(context), user=bool(context.find_root().params["user"]))


def directory_of(context: click.Context | None) -> Path | None:
    """The directory that --home names, before or behind a command's name; None if it was not said."""
    while context is not None and "directory" not in context.params:
        context = context.parent
    found: Path | None = None if context is None else context.params["directory"]
    return found
