"""``lmxd gateway`` and ``lmxd key``."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path
from typing import Any

import click

from lmxd.config.file import load
from lmxd.config.gateway import GatewayConfig
from lmxd.config.key_files import exposures
from lmxd.config.location import USER
from lmxd.errors import LmxdError
from lmxd.gateway import keys
from lmxd.gateway.app import runner
from lmxd.gateway.authentication import Authentication
from lmxd.gateway.leases import Leases
from lmxd.listening.connections import Connections, descriptors
from lmxd.listening.listen import listen
from lmxd.listening.tls import Certificate
from lmxd.rpc.client import default_socket, own_socket
from lmxd.systemd import Notifier
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
        import uvloop

        uvloop.run(_serve(config, config.listen, _daemon(root.params)))
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


async def _serve(config: GatewayConfig, address: str, daemon: Path) -> None:
    """Serve until SIGTERM or SIGINT. LmxdError if it cannot begin."""
    loop, told, notifier = asyncio.get_running_loop(), asyncio.Event(), Notifier()
    authentication = Authentication(config)
    certificate = None if config.tls_cert is None else Certificate(config.tls_cert, config.tls_key)
    tls = None if certificate is None else certificate.context
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    loop.add_signal_handler(signal.SIGHUP, _refresh, authentication, certificate)
    async with Leases(daemon, instances=config.instances) as leases:
        running = runner(config, leases, authentication)
        await running.setup()
        try:
            connections = Connections.within(descriptors())
            await listen(running, "gateway.listen", address, connections, mode=0o660, tls=tls)
            notifier.ready(f"listens on {address}")
            log.info("the gateway listens on %s%s", address, "" if tls is None else ", with TLS")
            if notifier.heard and not config.is_local:
                log.info("its unit lets in this machine alone, until IPAddressAllow= says more (docs/network.md)")
            await told.wait()
            notifier.stopping()
        finally:
            await running.cleanup()


def _refresh(authentication: Authentication, certificate: Certificate | None) -> None:
    """SIGHUP: keys and certificate anew. A key file that cannot be used has none: a revocation always takes effect."""
    try:
        authentication.refresh()
    except LmxdError as error:
        log.error("no key is in force: %s", error)
    try:
        if certificate is not None:
            certificate.refresh()
    except LmxdError as error:
        log.error("the certificate in force stays: %s", error)
