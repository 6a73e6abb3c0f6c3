"""``lmxd fleet node``."""

from __future__ import annotations

import logging
import sys

import click

from lmxd.config.file import load
from lmxd.config.gateway import GatewayConfig
from lmxd.config.location import USER
from lmxd.errors import LmxdError
from lmxd.fleet.meant_home import home_of
from lmxd.rpc.client import default_socket, own_socket

log = logging.getLogger("lmxd.fleet.node")


@click.command()
@USER
@click.pass_context
def node(context: click.Context) -> None:
    """Let the fleet use this box: say what lmxd has here, answer calls, and serve the fleet's gateways.

    It asks lmxd as an administrator. The bounds of its door are those of the gateway of this box.
    """
    root = context.find_root()
    try:
        home = home_of(context)
        user = bool(root.params["user"])
        settings, config = home.settings, load(context.obj).gateway if context.obj.exists() else GatewayConfig()
        import uvloop

        from lmxd.fleet.copying.copies import OwnLmxd
        from lmxd.fleet.node.process import serve

        socket = root.params["socket_path"] or (own_socket() if user else default_socket())
        log.debug("node %s of %s", settings.node, settings.fleet)
        uvloop.run(serve(home, config, OwnLmxd(config=context.obj, socket=socket, user=user)))
    except LmxdError as error:
        log.error("%s", error)
        sys.exit(error.exit_status)
