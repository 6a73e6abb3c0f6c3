"""``lmxd gateway`` and ``lmxd key``."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import click

from lmxd.config import keys
from lmxd.config.file import load
from lmxd.config.key_files import exposures
from lmxd.config.location import USER
from lmxd.errors import LmxdError
from lmxd.rpc.client import default_socket, own_socket
from lmxd.terminal import say

log = logging.getLogger("lmxd.gateway")


@click.command()
@USER
@click.pass_context
def gateway(context: click.Context) -> None:
    """Serve OpenAI's API and the dashboard over HTTP; gateway.listen says where."""
    root = context.find_root()
    try:
        whole = load(context.obj)
        config = whole.gateway
        for warning in (*whole.warnings, *exposures(config)):
            log.warning("%s", warning)
        if config.listen is None:
            raise LmxdError("config", f"{context.obj}: gateway.listen is not set", "say 127.0.0.1:8080, for instance")
        # Here, since all that lmxd does else starts sooner without a web server.
        import uvloop

        from lmxd.gateway.ollama.pulls import Pulls
        from lmxd.gateway.process import serve

        daemon = _daemon(root.params)
        pulls = Pulls(context.obj, daemon, user=root.params["user"])
        uvloop.run(serve(config, config.listen, daemon, pulls))
    except LmxdError as error:
        log.error("%s", error)
        sys.exit(error.exit_status)


def _daemon(params: dict[str, Any]) -> Path:
    """The socket of the daemon that is meant, whether or not it is up yet."""
    named: Path | None = params["socket_path"]
    return named or (own_socket() if params["user"] else default_socket())


@click.command()
@click.argument("name")
@click.option("--admin", is_flag=True, help="It may stop, pin and have devices yielded, on the dashboard.")
@USER
@click.pass_context
def key(context: click.Context, name: str, admin: bool) -> None:
    """Print a new API key for NAME, and add its hash to gateway.keys_file. An older one of that name ends."""
    path = load(context.obj).gateway.keys_file
    if path is None:
        raise LmxdError("config", f"{context.obj}: gateway.keys_file is not set", "say where keys are kept")
    say(keys.add(path, name, admin=admin), whole=True)
