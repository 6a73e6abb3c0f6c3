"""A box becomes part of a fleet: its directories, keys, certificates and fleet.yaml are written."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from lmxd.config import yaml_text
from lmxd.errors import LmxdError
from lmxd.fleet import joining, private_files
from lmxd.fleet.addresses import joined
from lmxd.fleet.authority.certificates import Authority, new_key, requested
from lmxd.fleet.authority.office import Office
from lmxd.fleet.home import SYSTEM_STATE, FleetHome
from lmxd.fleet.join_word import JoinWord
from lmxd.fleet.members import MemberRole

_LISTEN: Final = "127.0.0.1:8090"
"""The address of the fleet's gateway, unless fleet.yaml is changed."""
_OWNERS: Final = {MemberRole.NODE: "lmxd-gateway", MemberRole.GATEWAY: "lmxd-gateway", MemberRole.BROKER: "lmxd-fleet"}
"""The users that the system's units run as. An operator's key is root's."""
_HEAD: Final = "# This box in its fleet: lmxd fleet init or join wrote it. Restart lmxd-fleet-* after a change.\n"


def begin(
    home: FleetHome, fleet: str, node: str, host: str, *, port: int, door: int, keys_file: Path | None = None
) -> None:
    """Begin a fleet on this box, in all roles. ``host``: its name or address for others.

    ``keys_file``: whose keys its gateway is to let in; without one it is still to be said. LmxdError ``config``.
    """
    if home.config.exists() or home.authority.exists():
        what = f"this box is in a fleet already: {home.config}, {home.state}"
        raise LmxdError("config", what, "move both away to begin another one: its members must join anew")
    authority = Authority.new(fleet)
    private_files.directory(home.state, mode=0o755)
    owner = _owner(home, MemberRole.BROKER)
    for directory in (home.authority, home.authority / "members", home.authority / "tokens"):
        private_files.directory(directory, owner=owner)
    private_files.write(home.ca, authority.certificate, mode=0o644)
    private_files.write(home.authority / "ca.key", authority.key)
    office = Office(home.ca, home.authority)
    nats, cluster = joined(host, port), joined(host, port + 2)
    for role in MemberRole:
        key = new_key()
        certificate = office.enroll(role, node, requested(key), address=nats, cluster=cluster)
        _write_credentials(home, role, key, certificate)
    said: dict[str, Any] = {"fleet": fleet, "node": node, "brokers": [f"tls://{nats}"]}
    said |= {"authority": joined(host, port + 1), "door": joined(host, door)}
    if keys_file is not None:
        said["gateway"] = {"listen": _LISTEN, "keys_file": str(keys_file)}
    _write_settings(home, said)


def join(home: FleetHome, word: JoinWord, node: str, host: str, *, port: int, door: int) -> str:
    """Join the fleet of a token, in its roles. Returns the fleet's name. LmxdError.

    A box that is in it already gets these roles, too.
    """
    authority = joining.authority_of(word)
    if home.config.exists():
        _require_same(home, authority, node)
    keys = {role: new_key() for role in word.roles}
    done = joining.join(word, authority, node, keys, address=joined(host, port), cluster=joined(host, port + 2))
    private_files.directory(home.state, mode=0o755)
    private_files.write(home.ca, done.authority, mode=0o644)
    for role, key in keys.items():
        _write_credentials(home, role, key, done.certificates[role])
    if not home.config.exists():
        said: dict[str, Any] = {"fleet": done.fleet, "node": node, "brokers": [f"tls://{x}" for x in done.brokers]}
        _write_settings(home, said | {"authority": word.address, "door": joined(host, door)})
    return done.fleet


def _require_same(home: FleetHome, authority: bytes, node: str) -> None:
    settings = home.settings
    try:
        same = home.ca.read_bytes() == authority
    except OSError:
        same = False
    if not same:
        what = f"this box is in the fleet {settings.fleet} already, and the token is of another one"
        raise LmxdError("config", what, f"move {home.config} and {home.state} away first")
    if settings.node != node:
        what = f"this box is {settings.node} in its fleet, not {node}"
        raise LmxdError("config", what, f"say --node {settings.node}, or nothing")


def _write_credentials(home: FleetHome, role: MemberRole, key: bytes, certificate: bytes) -> None:
    private_files.directory(home.directory(role), owner=_owner(home, role))
    private_files.write(home.key(role), key)
    private_files.write(home.certificate(role), certificate)


def _write_settings(home: FleetHome, said: Mapping[str, Any]) -> None:
    private_files.directory(home.config.parent, mode=0o755)
    private_files.write(home.config, (_HEAD + yaml_text.dump(dict(said))).encode(), mode=0o644)


def _owner(home: FleetHome, role: MemberRole) -> tuple[int, int] | None:
    """The uid and gid of the system's unit of a role; None for whoever runs this. LmxdError ``config``."""
    user = _OWNERS.get(role)
    if user is None or home.state != SYSTEM_STATE or os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(user).pw_uid, grp.getgrnam(user).gr_gid
    except KeyError as error:
        remedy = "install lmxd's package, or make install; or say --user"
        raise LmxdError("config", f"there is no user {user} on this box", remedy) from error
