"""Commands that run another command: with a lease, or with bytes held for it."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import click

from lmxd.cli import output
from lmxd.cli.common import answers, completes, connect
from lmxd.cli.relay import followed
from lmxd.cli.wishes import SizeWish, WaitBar, asked_to_yield, environment, wait_options, waiting_time, wish_options
from lmxd.errors import LmxdError
from lmxd.rpc.client import Client
from lmxd.rpc.messages import Granted
from lmxd.rpc.notifications import Moved, Notification
from lmxd.terminal import say

COMMAND = click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("model", shell_complete=completes("model"))
@wish_options
@wait_options
@COMMAND
@answers
def run(
    model: str,
    wait: float | None,
    no_wait: bool,
    command: tuple[str, ...],
    json_wanted: bool,
    **wish: Any,
) -> None:
    """Lease MODEL, run COMMAND with OPENAI_BASE_URL, OPENAI_API_KEY and LMXD_ENDPOINT_SOCKET set, release.

    A COMMAND that cannot speak over a Unix socket needs a profile with endpoint: tcp, or the gateway.

    The lease is held by the connection: it ends with this command, however that ends. Where its context is elastic,
    COMMAND is given the address of a relay, and its requests find the lease wherever it moves.
    Signals are passed on to COMMAND, and its exit status is ours.
    """
    with connect() as client:
        waiting = waiting_time(wait, no_wait)
        with WaitBar() as progress:
            lease = client.request(model, wait=waiting, on_progress=progress.show, **wish)
        if json_wanted:
            output.as_json(lease, err=True)
        with followed(client.path, lease, waiting) as relay:
            if relay is None:
                sys.exit(_run(client, command, environment(lease)))
            sys.exit(_run(client, command, environment(relay.lease), moved=relay.moved))


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("size", type=SizeWish())
@click.option("--device", shell_complete=completes("device"), help="By default the one that it fits best.")
@click.option("--name", default="hold", show_default=True, help="What it is called in ps.")
@wait_options
@COMMAND
@answers
def hold(
    size: int,
    device: str | None,
    name: str,
    wait: float | None,
    no_wait: bool,
    command: tuple[str, ...],
    json_wanted: bool,
) -> None:
    """Hold SIZE of a device (9G, 500M) for COMMAND, which is not lmxd's: training, ComfyUI, any process.

    COMMAND sees that device alone (CUDA_VISIBLE_DEVICES, on AMD ROCR_VISIBLE_DEVICES). It is charged the larger of
    SIZE and what it and its children are measured to take. The hold ends when it ends. LMXD_HOLD_BYTES and
    LMXD_LEASE are set, too.
    """
    with connect() as client:
        with WaitBar() as progress:
            held = client.hold(
                size, device=device, name=name, wait=waiting_time(wait, no_wait), on_progress=progress.show
            )
        if json_wanted:
            output.as_json(held, err=True)
        env = {
            **(held.environment or {"CUDA_VISIBLE_DEVICES": held.cuda_visible_devices}),
            "LMXD_HOLD_BYTES": str(size),
            "LMXD_LEASE": held.lease,
        }
        sys.exit(_run(client, command, env, lambda pid: client.adopt(held.lease, pid)))


def _run(
    client: Client,
    command: tuple[str, ...],
    env: Mapping[str, str],
    started: Callable[[int], object] = lambda pid: None,
    moved: Callable[[Granted], object] = lambda lease: None,
) -> int:
    """The command's exit status as a shell would give it. ``started`` is told its pid, ``moved`` where the lease is."""
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
        child = subprocess.Popen(command, env=os.environ | env)  # noqa: S603 (the user's own command)
    except OSError as error:
        raise LmxdError("invalid_params", f"{command[0]}: {error.strerror}", "name a program to run") from error
    for missed in early:
        child.send_signal(missed)
    started(child.pid)
    _until_exit(client, child, moved)
    status = child.wait()
    return status if status >= 0 else 128 - status


def _until_exit(client: Client, child: subprocess.Popen[bytes], moved: Callable[[Granted], object]) -> None:
    """Wait for the child; if the lease ends before it does, say so and go on waiting."""
    exited = os.pidfd_open(child.pid)
    with selectors.DefaultSelector() as selector:
        selector.register(exited, selectors.EVENT_READ)
        selector.register(client, selectors.EVENT_READ)
        while exited not in {key.fd for key, _ in selector.select()}:
            try:
                _tell(client.receive(), moved)
            except LmxdError:
                selector.unregister(client)
                if _is_back(client):
                    selector.register(client, selectors.EVENT_READ)
            while client.has_message:
                _tell(client.receive(), moved)
    os.close(exited)


def _tell(message: dict[str, Any], moved: Callable[[Granted], object]) -> None:
    if message.get("method") == Notification.YIELD:
        say(f"lmxctl: {asked_to_yield(message['params'])}", err=True)
    if message.get("method") == Notification.MOVED:
        moved(Moved.model_validate(message["params"]).granted)
    if message.get("method") == Notification.LEASE_ENDED:
        say(f"lmxctl: the lease ended: {message['params']['reason']}", err=True)


def _is_back(client: Client) -> bool:
    """Returns whether the daemon came back, and the lease could be taken up again."""
    try:
        client.reconnect()
    except LmxdError as error:
        say(f"lmxctl: {error.message}: the lease is gone", err=True)
        return False
    return True
