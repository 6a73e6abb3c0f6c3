"""Commands about leases: request, release, touch, cancel, run."""

from __future__ import annotations

import os
import selectors
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import click

from lmxd.cli import output
from lmxd.cli.common import answers, completes, connect
from lmxd.errors import LmxdError
from lmxd.rpc import messages as m
from lmxd.rpc import notifications as n
from lmxd.rpc.client import Client, Lease

MODEL = click.argument("model", shell_complete=completes("model"))
LEASE = click.argument("lease", envvar="LMXD_LEASE", shell_complete=completes("lease"))


def _size_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--ctx", type=click.IntRange(1), help="Tokens that a slot must hold; the model's by default."),
        click.option("--slots", type=click.IntRange(1), help="Concurrent generations wanted; 1 by default."),
        click.option(
            "--wait", type=click.FloatRange(0), metavar="SECONDS", help="Wait no longer than this in the queue."
        ),
        click.option("--no-wait", is_flag=True, help="Do not wait: fail at once if there is no room."),
    ):
        command = option(command)
    return command


@click.command()
@MODEL
@_size_options
@click.option(
    "--hold",
    type=click.Choice(["connection", "ttl", "explicit"]),
    default="explicit",
    show_default=True,
    help="What keeps the lease: this command while it runs, a TTL with touch, or nothing but release.",
)
@click.option("--ttl", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="For --hold ttl.")
@click.option("--shell", is_flag=True, help='Print exports, for eval "$(lmxctl request --shell MODEL)".')
@answers
def request(
    model: str,
    ctx: int | None,
    slots: int | None,
    wait: float | None,
    no_wait: bool,
    hold: str,
    ttl: float | None,
    shell: bool,
    json_wanted: bool,
) -> None:
    """Lease MODEL: wait for room, start it if need be, print where it answers.

    The lease lasts until it is released or its instance has been idle too long. Exit
    status: 0 granted, 64 usage, 69 no daemon, 70 launch failed, 75 no capacity, 77 not
    permitted, 78 configuration.
    """
    with connect() as client:
        lease = _request(client, model, ctx, slots, wait, no_wait, hold, ttl)
        if shell:
            _print_exports(lease)
        elif json_wanted:
            output.as_json(lease)
        else:
            _print_lease(lease)
        if hold == "connection":
            _hold(client, lease)


def _request(
    client: Client,
    model: str,
    ctx: int | None,
    slots: int | None,
    wait: float | None,
    no_wait: bool,
    hold: str,
    ttl: float | None,
) -> Lease:
    if no_wait and wait:
        raise LmxdError("invalid_params", "--wait and --no-wait exclude each other", "give one of them")
    with _Progress() as progress:
        return client.request(
            model,
            ctx=ctx,
            slots=slots,
            wait=0 if no_wait else wait,
            hold=hold,
            ttl=ttl,
            on_progress=progress.show,
        )


class _Progress:
    """On a terminal, says where the request stands; in a pipe, nothing."""

    def __init__(self) -> None:
        self._status: AbstractContextManager[Any] = nullcontext()

    def __enter__(self) -> _Progress:
        if sys.stderr.isatty():
            from rich.console import Console

            self._status = Console(stderr=True).status("asking")
        self._shown = self._status.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._status.__exit__(*error)

    def show(self, progress: n.Progress) -> None:
        if self._shown is None:
            return
        if progress.state == "starting":
            self._shown.update(f"starting {progress.instance}")
            return
        holders = [h.name for s in progress.shortfalls for h in s.holders]
        waits_for = f", waiting for {', '.join(dict.fromkeys(holders))}" if holders else ""
        self._shown.update(f"number {progress.position} in the queue{waits_for}")


def environment(lease: m.Granted) -> dict[str, str]:
    """What a program needs to use a lease."""
    env = {
        "OPENAI_BASE_URL": lease.base_url,
        "OPENAI_API_KEY": lease.api_key,
        "LMXD_LEASE": lease.lease,
        "LMXD_MODEL": lease.model,
    }
    return env | ({"LMXD_ENDPOINT_SOCKET": lease.socket} if lease.socket else {})


def _print_exports(lease: m.Granted) -> None:
    for name, value in environment(lease).items():
        click.echo(f"export {name}={shlex.quote(value)}")


def _print_lease(lease: m.Granted) -> None:
    click.echo(f"{lease.lease} on {lease.instance}: {output.sizes(lease.devices)} ({lease.basis})")
    click.echo(f"  base URL  {lease.base_url}" + (f"  over {lease.socket}" if lease.socket else ""))
    click.echo(f"  API key   {lease.api_key}")
    click.echo(f"  context   {lease.ctx} tokens")


def _hold(client: Client, lease: m.Granted) -> None:
    """Keep the connection, and with it the lease, until it ends or we are interrupted."""
    sys.stdout.flush()
    try:
        while (message := client.receive()).get("method") != "lmxd.lease_ended":
            pass
        reason = message["params"]["reason"]
        raise LmxdError("lease_ended", f"{lease.lease} ended: {reason}", "make a new request")
    except KeyboardInterrupt:
        pass


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
        renewed = client.renew(lease, ttl)
    if json_wanted:
        output.as_json(renewed)


@click.command()
@click.argument("ticket", shell_complete=completes("ticket"))
@answers
def cancel(ticket: str, json_wanted: bool) -> None:
    """Take a waiting request out of the queue (lmxctl queue lists them)."""
    with connect() as client:
        done = client.cancel(ticket)
    if json_wanted:
        output.as_json(done)


@click.command(context_settings={"ignore_unknown_options": True})
@MODEL
@_size_options
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@answers
def run(
    model: str,
    ctx: int | None,
    slots: int | None,
    wait: float | None,
    no_wait: bool,
    command: tuple[str, ...],
    json_wanted: bool,
) -> None:
    """Lease MODEL, run COMMAND with OPENAI_BASE_URL and OPENAI_API_KEY set, release.

    The lease is held by the connection: it ends with this command, however that ends.
    Signals are passed on to COMMAND, and its exit status is ours.
    """
    with connect() as client:
        lease = _request(client, model, ctx, slots, wait, no_wait, "connection", None)
        if json_wanted:
            click.echo(lease.model_dump_json(), err=True)
        sys.exit(_run(client, lease, command))


def _run(client: Client, lease: Lease, command: tuple[str, ...]) -> int:
    """The command's exit status as a shell would give it."""
    child: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def pass_on(number: int, _: object) -> None:
        if child is None:
            early.append(number)
        else:
            child.send_signal(number)

    # Before the fork: the command may run, and be signalled through us, before Popen returns here.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, pass_on)
    try:
        child = subprocess.Popen(command, env=os.environ | environment(lease))  # noqa: S603 (the user's own command)
    except OSError as error:
        raise LmxdError("invalid_params", f"{command[0]}: {error.strerror}", "name a program to run") from error
    for missed in early:
        child.send_signal(missed)
    _until_exit(client, child)
    status = child.wait()
    return status if status >= 0 else 128 - status


def _until_exit(client: Client, child: subprocess.Popen[bytes]) -> None:
    """Wait for the child; if the lease ends before it does, say so and go on waiting."""
    exited = os.pidfd_open(child.pid)
    with selectors.DefaultSelector() as selector:
        selector.register(exited, selectors.EVENT_READ)
        selector.register(client, selectors.EVENT_READ)
        while True:
            ready = {key.fd for key, _ in selector.select()}
            if exited in ready:
                os.close(exited)
                return
            try:
                message = client.receive()
            except LmxdError as error:
                selector.unregister(client)
                click.echo(f"lmxctl: {error.message}: the lease is gone", err=True)
                continue
            if message.get("method") == "lmxd.lease_ended":
                click.echo(f"lmxctl: the lease ended: {message['params']['reason']}", err=True)


COMMANDS = (request, release, touch, cancel, run)
