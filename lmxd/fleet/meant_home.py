"""The home that a command of the fleet is about."""

from __future__ import annotations

import click

from lmxd.fleet.home import FleetHome


def home_of(context: click.Context) -> FleetHome:
    """The home that a command of the fleet is about. Its options may stand before and behind its name."""
    found = next((x.params["directory"] for x in _above(context) if "directory" in x.params), None)
    return FleetHome.at(found, user=bool(context.find_root().params["user"]))


def _above(context: click.Context) -> list[click.Context]:
    return [context, *(_above(context.parent) if context.parent else [])]
