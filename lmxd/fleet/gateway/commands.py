"""``lmxd fleet gateway``."""

from __future__ import annotations

import logging
import sys

import click

from lmxd.config.key_files import exposures
from lmxd.config.location import USER
from lmxd.errors import LmxdError
from lmxd.fleet.meant_home import home_of

log = logging.getLogger("lmxd.fleet.gateway")


@click.command()
@USER
@click.pass_context
def gateway(context: click.Context) -> None:
    """Serve OpenAI's API for the whole fleet: each request by the node that has the model ready, or room for it.

    gateway.listen of fleet.yaml says where, and gateway.keys_file whose keys are let in.
    """
    try:
        home = home_of(context)
        config = home.settings.gateway
        for warning in (*config.warnings, *exposures(config)):
            log.warning("%s", warning)
        if config.listen is None:
            raise LmxdError("config", f"{home.config}: gateway.listen is not set", "say 127.0.0.1:8090, for instance")
        import uvloop

        from lmxd.fleet.gateway.process import serve

        uvloop.run(serve(home, config, config.listen))
    except LmxdError as error:
        log.error("%s", error)
        sys.exit(error.exit_status)
