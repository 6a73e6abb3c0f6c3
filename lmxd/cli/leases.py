"""Commands about leases: request, grow, release, touch, cancel."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, get_args

import click

from lmxd.cli import output
from lmxd.cli.common import answers, completes, connect
from lmxd.cli.evaluated import EvaluatedCommand
from lmxd.cli.hints import more_slots
from lmxd.cli.wishes import (
    ENDPOINT_SOCKET,
    WaitBar,
    asked_to_yield,
    environment,
    wait_options,
    waiting_time,
    wish_options,
)
from lmxd.errors import LmxdError
from lmxd.rpc.client import Client, ConnectionLost
from lmxd.rpc.messages import Granted, KeptBy
from lmxd.rpc.notifications import Moved, Notification
from lmxd.terminal import say

LEASE = click.argument("lease", envvar="LMXD_LEASE", shell_complete=completes("lease"))


@click.command(cls=EvaluatedCommand)
@click.argument("model", shell_complete=completes("model"))
@wish_options
@wait_options
@click.option(
    "--hold",
    type=click.Choice(get_args(KeptBy)),
    default="explicit",
    show_default=True,
    help="What keeps the lease: this command while it runs, a TTL with touch, or nothing but release.",
)
@click.option("--ttl", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="For --hold ttl.")
@click.option("--shell", is_flag=True, help='Print exports, for eval "$(lmxctl request --shell MODEL)".')
@answers
def request(
    model: str,
    wait: float | None,
    no_wait: bool,
    hold: KeptBy,
    ttl: float | None,
    shell: bool,
    json_wanted: bool,
    **wish: Any,
) -> None:
    """Lease MODEL: wait for room, start it if need be, print where it answers.

    The lease lasts until it is released or its instance has been idle too long. Exit
    status: 0 granted, 64 usage, 69 no daemon, 70 launch failed, 75 no capacity, 77 not
    permitted, 78 configuration.
    """
    waiting = waiting_time(wait, no_wait)
    with connect() as client:
        with WaitBar(partial(_hint, model, wish)) as progress:
            lease = client.request(model, wait=waiting, hold=hold, ttl=ttl, on_progress=progress.show, **wish)
        show = _shown_by(shell, json_wanted)
        show(lease)
        if show is _print_lease and (hint := _hint(lease.model, wish, lease.instance)):
            say(f"  hint      {hint}")
        if hold == "connection":
            _hold(client, lease, show)


def _hint(model: str, wish: Mapping[str, Any], besides: str | None = None) -> str | None:
    """The hint at an instance that a request could have shared, asked for on a connection of its own."""
    if wish.get("exclusive"):
        return None
    with suppress(LmxdError), connect() as client:
        return more_slots(client.instances().instances, model, wish.get("slots") or 1, besides, wish.get("ctx"))
    return None


def _shown_by(shell: bool, json_wanted: bool) -> Callable[[Granted], None]:
    """The way in which a lease is printed: for a shell, for a program, or for people."""
    return _print_exports if shell else output.as_json if json_wanted else _print_lease


def _print_exports(lease: Granted) -> None:
    for name, value in environment(lease).items():
        say(f"export {name}={shlex.quote(value)}", whole=True)
    if lease.socket is None:
        say(f"unset {ENDPOINT_SOCKET}")


def _print_lease(lease: Granted) -> None:
    say(f"{lease.lease} on {lease.instance}: {output.sizes(lease.devices, lease.called)} ({lease.basis})")
    say(f"  base URL  {lease.base_url}", whole=True)
    if lease.socket:
        say(f"  over      curl --unix-socket {shlex.quote(lease.socket)}", whole=True)
    say(f"  API key   {lease.api_key}", whole=True)
    of = "" if lease.ctx_most is None else f" of {lease.ctx_most}"
    say(f"  context   {lease.ctx}{of} tokens")


def _hold(client: Client, lease: Granted, show: Callable[[Granted], object]) -> None:
    """Keep the connection, and with it the lease, until it ends or we are interrupted. ``show``: it has moved."""
    sys.stdout.flush()
    try:
        while (message := _next(client)).get("method") != Notification.LEASE_ENDED:
            if message.get("method") == Notification.YIELD:
                say(f"lmxctl: {asked_to_yield(message['params'])}", err=True)
            if message.get("method") == Notification.MOVED:
                show(Moved.model_validate(message["params"]).granted)
                sys.stdout.flush()
        reason = message["params"]["reason"]
        raise LmxdError("lease_ended", f"{lease.lease} ended: {reason}", "make a new request")
    except KeyboardInterrupt:
        pass


def _next(client: Client) -> dict[str, Any]:
    """The next message, though the daemon be restarted meanwhile."""
    while True:
        try:
            return client.receive()
        except ConnectionLost:
            client.reconnect()


@click.command(cls=EvaluatedCommand)
@LEASE
@click.option("--ctx", type=click.IntRange(1), required=True, metavar="TOKENS", help="The context that it must have.")
@click.option("--slot", type=click.IntRange(0, 255), metavar="N", help="Of several slots, the one of its conversation.")
@wait_options
@click.option("--shell", is_flag=True, help='Print exports, for eval "$(lmxctl grow --shell --ctx TOKENS)".')
@answers
def grow(
    lease: str, ctx: int, slot: int | None, wait: float | None, no_wait: bool, shell: bool, json_wanted: bool
) -> None:
    """Move LEASE to an instance with more context, its conversation with it; print where it answers from now on.

    A lease that cannot grow stays where it is. Exit status: as of request.
    """
    waiting = waiting_time(wait, no_wait)
    with connect() as client, WaitBar() as progress:
        grown = client.grow(lease, ctx, slot=slot, wait=waiting, on_progress=progress.show)
    _shown_by(shell, json_wanted)(grown)


@click.command()
@LEASE
@answers
def release(lease: str, json_wanted: bool) -> None:
    """End LEASE (by default the one in LMXD_LEASE). Its instance stays for the next one until it is idle too long."""
    with connect() as client:
        done = client.release(lease)
    if json_wanted:
        output.as_json(done)


@click.command()
@LEASE
@click.option("--ttl", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="A new TTL from now on.")
@answers
def touch(lease: str, ttl: float | None, json_wanted: bool) -> None:
    """Keep LEASE alive: restart its TTL and its instance's idle clock."""
    with connect() as client:
        renewed = client.renew(lease, ttl=ttl)
    if json_wanted:
        output.as_json(renewed)


@click.command()
@click.argument("ticket", shell_complete=completes("ticket"))
@answers
def cancel(ticket: str, json_wanted: bool) -> None:
    """Take a waiting request out of the queue (lmxctl queue lists them)."""
    with connect() as client:
        done = client.cancel(ticket=ticket)
    if json_wanted:
        output.as_json(done)
