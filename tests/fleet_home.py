"""Boxes of a fleet for tests: each with certificates of its roles, signed by one authority, without joining."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from lmxd.fleet.authority.certificates import LIFETIME, Authority, new_key, requested
from lmxd.fleet.home import FleetHome
from lmxd.fleet.members import Member, MemberRole


def box(
    authority: Authority,
    directory: Path,
    name: str,
    roles: Iterable[MemberRole],
    *,
    now: datetime | None = None,
    lifetime: timedelta = LIFETIME,
    **settings: Any,
) -> FleetHome:
    """The home of a box of that name. ``settings``: keys of fleet.yaml beside those that are always needed."""
    home = FleetHome.at(directory, user=False)
    directory.mkdir(parents=True, exist_ok=True)
    home.ca.write_bytes(authority.certificate)
    said = {"fleet": authority.fleet, "node": name, "brokers": ["tls://127.0.0.1:4222"]}
    said |= {"authority": "127.0.0.1:4223", "door": "127.0.0.1:8443"} | settings
    home.config.write_text(json.dumps(said))
    for role in roles:
        key, member = new_key(), Member(fleet=authority.fleet, role=role, name=name)
        home.directory(role).mkdir(exist_ok=True)
        home.key(role).touch(mode=0o600)
        home.key(role).write_bytes(key)
        hosts = ["localhost", "127.0.0.1"] if role is MemberRole.BROKER else []  # as the authority gives them
        signed = authority.sign(requested(key), member, hosts=hosts, now=now, lifetime=lifetime)
        home.certificate(role).write_bytes(signed)
    return home
