"""``lmxd fleet``: many boxes, one endpoint. Neither NATS nor a web server is imported before a command needs it."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import click

from lmxd.config.file import load
from lmxd.config.location import USER
from lmxd.errors import LmxdError
from lmxd.fleet.addresses import DOOR_PORT, NATS_PORT, own_host, own_name
from lmxd.fleet.gateway.commands import gateway, key
from lmxd.fleet.home import FleetHome
from lmxd.fleet.meant_home import home_of
from lmxd.fleet.members import Member, MemberRole
from lmxd.fleet.names import NODE
from lmxd.fleet.node.commands import node as run_node
from lmxd.terminal import Commands, say, typed

log = logging.getLogger("lmxd.fleet")
_HOST = click.option(
    "--address", "host", help="Name or address of this box for the others; by default it is looked up."
)
_NODE = click.option("--node", help="Name of this box in the fleet; by default its host name.")
_PORT = click.option(
    "--port",
    type=click.IntRange(1, 65533),
    default=NATS_PORT,
    show_default=True,
    help="Of NATS here; two more follow it.",
)
_DOOR_PORT = click.option(
    "--door",
    type=click.IntRange(1, 65535),
    default=DOOR_PORT,
    show_default=True,
    help="Port of the node here for gateways.",
)


@click.group(cls=Commands)
@click.option("--home", "directory", type=click.Path(path_type=Path), help="Keep all of this box's fleet here.")
@click.pass_context
def fleet(context: click.Context, directory: Path | None) -> None:
    """Many boxes, one endpoint: begin a fleet, join boxes to it, and run its parts."""


def need_extra() -> None:
    """LmxdError ``config`` unless what a fleet needs beside lmxd is installed."""
    if missing := [name for name in ("cryptography", "nats") if find_spec(name) is None]:
        remedy = f"{sys.executable} -m pip install 'lmxd[fleet]'"
        raise LmxdError("config", f"a fleet needs the Python package {missing[0]}", remedy)


@fleet.command()
@click.argument("name", default="home")
@_HOST
@_NODE
@_PORT
@_DOOR_PORT
@USER
@click.pass_context
def init(context: click.Context, name: str, host: str | None, node: str | None, port: int, door: int) -> None:
    """Begin a fleet called NAME on this box, which gets its authority, and a certificate of each role."""
    need_extra()
    from lmxd.fleet.enrolling import begin

    home, node, host = home_of(context), node or own_name(), host or own_host()
    for what, said in (("NAME", name), ("--node", node)):
        if not NODE.fullmatch(said):
            raise LmxdError("config", f"{what} is {said!r}", "give up to 63 of a-z, 0-9 and -, such as home or n1")
    begin(home, name, node, host, port=port, door=door, keys_file=_keys_file(context))
    ports = f"{port} to {port + 2}, and {door}"
    say(f"{home.config}: this box is {node} in the fleet {name}; others reach it at {host}, ports {ports}")
    _start(context, home, frozenset(MemberRole))
    say(f"for each further box: {_words(context)} token here, and {_words(context)} join there, which asks for it")


@fleet.command()
@click.option(
    "--role",
    "roles",
    type=click.Choice([role.value for role in MemberRole]),
    multiple=True,
    help="Of the new box; several may be said.",
)
@click.option("--name", help="For the box of this name alone, also in the place of one that has it.")
@USER
@click.pass_context
def token(context: click.Context, roles: tuple[MemberRole, ...], name: str | None) -> None:
    """Print a token by which a box joins as a node, or in another role: one use, within 15 minutes."""
    need_extra()
    from lmxd.fleet.authority.certificates import fingerprint
    from lmxd.fleet.authority.office import Office
    from lmxd.fleet.join_word import JoinWord

    home = home_of(context)
    address = home.settings.authority
    office = Office(home.ca, home.authority)
    asked = frozenset(map(MemberRole, roles)) or frozenset((MemberRole.NODE,))
    word = JoinWord(
        address=address,
        authority=fingerprint(office.authority.certificate),
        secret=office.offer(asked, name),
        roles=asked,
    )
    say(str(word), whole=True)


@fleet.command()
@click.argument("word", metavar="[TOKEN]", required=False)
@_HOST
@_NODE
@_PORT
@_DOOR_PORT
@USER
@click.pass_context
def join(context: click.Context, word: str | None, host: str | None, node: str | None, port: int, door: int) -> None:
    """Join the fleet of TOKEN. Without one it is read from standard input, where ps shows it to nobody."""
    need_extra()
    from lmxd.fleet import enrolling
    from lmxd.fleet.join_word import JoinWord

    home, token = home_of(context), JoinWord.parsed(word or typed("token: ") or "")
    named = node or (home.settings.node if home.config.exists() else own_name())
    host = host or own_host(token.address)
    name = enrolling.join(home, token, named, host, port=port, door=door)
    roles = " and ".join(sorted(token.roles))
    at = home.settings.door if MemberRole.NODE in token.roles else host
    say(f"{home.config}: this box is {named} in the fleet {name}, as {roles}; others reach it at {at}")
    _start(context, home, token.roles)


@fleet.command()
@USER
@click.pass_context
def broker(context: click.Context) -> None:
    """Run nats-server for the fleet; on the box of init also the service by which boxes join and renew."""
    need_extra()
    import uvloop

    from lmxd.fleet.authority.broker import serve

    try:
        uvloop.run(serve(home_of(context)))
    except LmxdError as error:
        log.error("%s", error)
        sys.exit(error.exit_status)


@fleet.command()
@USER
@click.pass_context
def members(context: click.Context) -> None:
    """List who belongs to the fleet, and until when each certificate counts; on the box of init."""
    from lmxd.fleet.authority.roll import Roll

    home = home_of(context)
    name, found = home.settings.fleet, Roll(home.authority / "members").all()
    if not found:
        say(f"the fleet {name} has no members")
    for entry in found:
        end = datetime.fromtimestamp(entry.expires, UTC)
        say(f"{entry.role:9} {entry.name:20} until {end:%Y-%m-%d}{f'  {entry.address}' if entry.address else ''}")


@fleet.command()
@click.argument("role", type=click.Choice([role.value for role in MemberRole]))
@click.argument("name")
@USER
@click.pass_context
def remove(context: click.Context, role: str, name: str) -> None:
    """End the membership of NAME in a role: NATS and the doors of nodes cut it off at once, and nothing is renewed."""
    from lmxd.fleet.authority.roll import Roll

    home = home_of(context)
    Roll(home.authority / "members").forget(Member(fleet=home.settings.fleet, role=MemberRole(role), name=name))
    say(f"{role} {name} belongs to the fleet no more")


def _start(context: click.Context, home: FleetHome, roles: frozenset[MemberRole]) -> None:
    """Start what these roles need, or say how. A fleet in a directory of its own has no services."""
    from lmxd.fleet import units

    user = bool(context.find_root().params["user"])
    found = [] if home != FleetHome.at(None, user=user) else units.start(roles, user=user)
    for unit in found:
        say(f"{unit} runs, and will after each start of this box")
    for role in (MemberRole.BROKER, MemberRole.NODE):
        if role in roles and not found:
            say(f"next: {_words(context)} {role}")
    if MemberRole.GATEWAY in roles:
        listen = home.settings.gateway.listen
        run = f"systemctl {'--user ' if user else ''}enable --now lmxd-fleet-gateway" if found else ""
        run = run or f"{_words(context)} gateway"
        first = f"gateway.listen and keys_file in {home.config}, then " if listen is None else ""
        say(f"for one endpoint {f'at {listen}' if listen else 'here'}: {first}{run}")
        say(f"for each user of it: {_words(context)} key NAME")


def _keys_file(context: click.Context) -> Path | None:
    """The keys that the gateway of this box lets in, by lmxd's configuration."""
    try:
        return load(context.obj).gateway.keys_file if context.obj.exists() else None
    except LmxdError as error:
        log.warning("keys of this box's gateway are not found: %s", error)
        return None


def _words(context: click.Context) -> str:
    return "lmxd --user fleet" if context.find_root().params["user"] else "lmxd fleet"


fleet.add_command(run_node)
fleet.add_command(gateway)
fleet.add_command(key)
