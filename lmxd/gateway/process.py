"""The gateway's process, from its configuration to its end."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from lmxd.config.gateway import GatewayConfig
from lmxd.errors import LmxdError
from lmxd.gateway.app import runner
from lmxd.gateway.leasing.leases import Leases
from lmxd.gateway.ollama.pulls import Pulls
from lmxd.gateway.requests.authentication import Authentication
from lmxd.listening.certificate import Certificate
from lmxd.listening.connections import Connections, descriptors
from lmxd.listening.listen import listen
from lmxd.systemd import Notifier

log = logging.getLogger("lmxd.gateway")


async def serve(config: GatewayConfig, address: str, daemon: Path, pulls: Pulls) -> None:
    """Serve until SIGTERM or SIGINT. LmxdError if it cannot begin."""
    authentication = Authentication(config)
    async with Leases(daemon, instances=config.instances) as leases:
        running = runner(config, leases, authentication, pulls)
        await listening(config, address, authentication, running, asyncio.Event())


async def listening(
    config: GatewayConfig,
    address: str,
    authentication: Authentication,
    running: web.AppRunner,
    told: asyncio.Event,
    reread: Callable[[], None] = lambda: None,
) -> None:
    """Listen until SIGTERM or SIGINT, or until it is ``told`` to end. LmxdError if it cannot begin.

    ``reread``: what SIGHUP does beside reading keys and certificate anew.
    """
    loop, notifier = asyncio.get_running_loop(), Notifier()
    certificate = None if config.tls_cert is None else Certificate(config.tls_cert, config.tls_key)
    tls = None if certificate is None else certificate.context
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    loop.add_signal_handler(signal.SIGHUP, _refresh, authentication, certificate, reread)
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


def _refresh(authentication: Authentication, certificate: Certificate | None, reread: Callable[[], None]) -> None:
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
    reread()
