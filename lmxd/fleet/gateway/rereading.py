"""fleet.yaml while a gateway runs: users are read anew, and what is wrong is told."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from lmxd.config.key_files import exposures
from lmxd.config.keys import Keys
from lmxd.config.section import Section
from lmxd.errors import LmxdError
from lmxd.fleet.finding.quotas import FleetQuotas
from lmxd.fleet.home import FleetHome, FleetSettings
from lmxd.fleet.users import DEFAULT

log = logging.getLogger("lmxd.fleet.gateway")


def warnings(settings: FleetSettings) -> list[str]:
    """Sentences about what may be meant otherwise. LmxdError if the file of keys cannot be used."""
    config = settings.gateway
    return [*config.warnings, *exposures(config), *_unknown_users(settings)]


def _unknown_users(settings: FleetSettings) -> list[str]:
    path = settings.gateway.keys_file
    named = [name for name in settings.users if name != DEFAULT]
    known = Keys(path).names if path is not None and named else ()
    return [
        f"users.{name}: there is no key of that name here (lmxd fleet key {name} makes it)"
        for name in named
        if name not in known
    ]


def reread(home: FleetHome, quotas: FleetQuotas) -> None:
    """Go by the users that the file has now, or by those before if it is bad. ``home``: as the gateway began with it.

    Requests go on, and those that wait do so by the new limits.
    """
    try:
        settings = FleetHome(home.config, home.state).settings
        found = warnings(settings)
    except LmxdError as error:
        log.error("the users in force stay: %s", error)
        return
    quotas.replace(settings.users)
    for warning in (*found, *_for_a_restart(home.settings, settings)):
        log.warning("%s", warning)
    log.info("users read from %s", home.config)


def _for_a_restart(before: FleetSettings, now: FleetSettings) -> Iterator[str]:
    changed = [*_changed(before, now, {"users", "gateway"})]
    for key in (*changed, *(f"gateway.{key}" for key in _changed(before.gateway, now.gateway, set()))):
        yield f"{key} of fleet.yaml takes effect when the gateway is restarted"


def _changed(before: Section, now: Section, but: set[str]) -> list[str]:
    return [key for key in type(now).model_fields if key not in but and getattr(before, key) != getattr(now, key)]
