"""``lmxd fleet gateway`` and ``lmxd fleet key``."""

from __future__ import annotations

import logging
import sys

import click

from lmxd.config import keys
from lmxd.config.location import USER
from lmxd.errors import LmxdError
from lmxd.fleet.home import FleetHome
from lmxd.fleet.meant_home import home_of
from lmxd.fleet.members import MemberRole
from lmxd.fleet.tls import client_context
from lmxd.terminal import say

log = logging.getLogger("lmxd.fleet.gateway")


def _home(context: click.Context) -> FleetHome:
    """The home of a box that is to be a gateway. LmxdError ``config`` first of all if it is none: it has to join."""
    home = home_of(context)
    client_context(home, MemberRole.GATEWAY)
    return home


@click.command()
@USER
@click.pass_context
def gateway(context: click.Context) -> None:
    """Serve OpenAI's API for the whole fleet: each request by the node that has the model ready, or room for it.

    gateway.listen of fleet.yaml says where, and gateway.keys_file whose keys are let in.
    """
    try:
        home = _home(context)
        config = home.settings.gateway
        from lmxd.fleet.gateway.rereading import warnings

        for warning in warnings(home.settings):
            log.warning("%s", warning)
        if config.listen is None:
            raise LmxdError("config", f"{home.config}: gateway.listen is not set", "say 127.0.0.1:8090, for instance")
        import uvloop

        from lmxd.fleet.gateway.process import serve

        uvloop.run(serve(home, config, config.listen))
    except LmxdError as error:
        log.error("%s", error)
        sys.exit(error.exit_status)


@click.command()
@click.argument("name")
@click.option("--admin", is_flag=True, help="The dashboard shows its owner all users.")
@USER
@click.pass_context
def key(context: click.Context, name: str, admin: bool) -> None:
    """Print a new API key for NAME, and add its hash to gateway.keys_file of fleet.yaml. An older one of it ends."""
    home = _home(context)
    path = home.settings.gateway.keys_file
    if path is None:
        raise LmxdError("config", f"{home.config}: gateway.keys_file is not set", "say where keys are kept")
    say(keys.add(path, name, admin=admin), whole=True)
