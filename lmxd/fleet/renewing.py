"""Certificates are renewed while they count, by the process that uses them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Final

from lmxd.errors import LmxdError
from lmxd.fleet import joining_messages as messages
from lmxd.fleet import private_files, tls
from lmxd.fleet.aside import aside
from lmxd.fleet.authority.certificates import requested, validity
from lmxd.fleet.home import FleetHome
from lmxd.fleet.joining import AuthorityClient
from lmxd.fleet.members import MemberRole, any_host

log = logging.getLogger(__name__)
_LOOK: Final = 3600.0
"""The most seconds between two looks at the date, and after a failure: a third of a certificate's life is left then."""
_TRIES: Final = 10
"""Tries in what is left of a life that is shorter."""


def due(home: FleetHome, role: MemberRole) -> float:
    """The time, in seconds since 1970, at which a third of a certificate's life is left. LmxdError ``config``."""
    return _due(*_validity(home, role))


def _due(begin: float, end: float) -> float:
    return end - (end - begin) / 3


def _validity(home: FleetHome, role: MemberRole) -> tuple[float, float]:
    try:
        return validity(home.certificate(role).read_bytes())
    except (OSError, ValueError) as error:
        what = f"{home.certificate(role)} cannot be read"
        raise LmxdError("config", what, "lmxd fleet join TOKEN writes it") from error


def authority_client(home: FleetHome, role: MemberRole) -> AuthorityClient:
    """Asks the authority as a member. LmxdError ``config``."""
    settings = home.settings
    name = any_host(settings.fleet, MemberRole.BROKER)
    return AuthorityClient(settings.authority, tls.client_context(home, role), name)


def renew(home: FleetHome, role: MemberRole) -> None:
    """Have the certificate of a role renewed, for the same key. LmxdError, and the present one stays."""
    if (end := _validity(home, role)[1]) < time.time():
        name = home.settings.node
        remedy = (
            f"lmxd fleet token --role {role} --name {name} on the box of lmxd fleet init, then lmxd fleet join here"
        )
        what = f"the certificate of this box as {role} ended on {datetime.fromtimestamp(end, UTC):%Y-%m-%d}"
        raise LmxdError("config", what, remedy)
    request = messages.RenewRequest(request=requested(home.key(role).read_bytes()).decode())
    answer = authority_client(home, role).post(messages.RENEW_PATH, request, messages.RenewAnswer)
    private_files.write(home.certificate(role), answer.certificate.encode())


def renew_if_due(home: FleetHome, role: MemberRole) -> None:
    """For a program that ends soon: it goes on with the present one where that counts. LmxdError ``config`` if not."""
    tls.client_context(home, role)
    if time.time() < due(home, role):
        return
    try:
        renew(home, role)
    except LmxdError as error:
        if error.code == "config":
            raise
        log.debug("the certificate as %s is not renewed yet: %s", role, error)


def next_look(begin: float, end: float, now: float, look: float = _LOOK) -> float:
    """Seconds until a certificate is looked at again: when a third of its life is left, or for another try after that.

    ``begin``, ``end``: of that life. ``look``: the most.
    """
    due_at = _due(begin, end)
    wanted = due_at - now if now < due_at else (end - now) / _TRIES
    return min(look, max(1.0, wanted)) if now < end else look


def _nothing() -> None:
    """Nobody else has to know."""


async def keep_renewed(
    home: FleetHome,
    role: MemberRole,
    contexts: Iterable[ssl.SSLContext] = (),
    *,
    ask: Callable[[FleetHome, MemberRole], None] = renew,
    renewed: Callable[[], None] = _nothing,
    clock: Callable[[], float] = time.time,
    look: float = _LOOK,
) -> None:
    """Renew the certificate of a role in time, until this is cancelled. ``contexts`` have it for connections to come.

    ``ask``: writes another certificate; ``renewed`` is called after it. ``clock``: seconds since 1970. ``look``: most
    seconds between two looks.
    """
    while True:
        try:
            if clock() >= due(home, role):
                await aside(lambda: ask(home, role))
                for context in contexts:
                    tls.renew(context, home, role)
                renewed()
                log.info("the certificate as %s is renewed", role)
        except LmxdError as error:
            log.warning("the certificate as %s is not renewed yet: %s", role, error)
        pause = look
        with contextlib.suppress(LmxdError):
            pause = next_look(*_validity(home, role), clock(), look)
        await asyncio.sleep(pause)
