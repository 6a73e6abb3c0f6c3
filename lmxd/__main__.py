"""``lmxd``: the daemon's command line."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from lmxd import __version__, failpoints
from lmxd.config.file import load
from lmxd.config.location import USER, default_config, user_config
from lmxd.config.schema import Config
from lmxd.confinement.capabilities import keep_from_children
from lmxd.daemon.places import Places, admit_groups, listen, occupy, places
from lmxd.daemon.watched_file import content, watched
from lmxd.errors import EX_CONFIG, ConfigError, LmxdError
from lmxd.failpoints import hit
from lmxd.listening.connections import descriptors
from lmxd.log_lines import log_to_stderr
from lmxd.terminal import Commands, say

if TYPE_CHECKING:
    from aiohttp.web import AppRunner

    from lmxd.daemon.assembly import Daemon
    from lmxd.systemd import Notifier

log = logging.getLogger("lmxd")
_COMMANDS: Final = {
    "completion": "lmxd.completion:completion",
    "fleet": "lmxd.fleet.commands:fleet",
    "gateway": "lmxd.gateway.commands:gateway",
    "import": "lmxd.migrate.commands:import_",
    "init": "lmxd.setup.init:init",
    "key": "lmxd.gateway.commands:key",
    "pull": "lmxd.setup.pull:pull",
    "scan": "lmxd.setup.init:scan",
    "setup": "lmxd.setup.commands:setup",
}
"""The place of each: the daemon itself starts without them."""


@click.group(
    "lmxd",
    cls=Commands,
    elsewhere=_COMMANDS,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("--config", "config_path", type=click.Path(path_type=Path), help="Configuration file.")
@click.option(
    "--socket", "socket_path", type=click.Path(path_type=Path), help="Listen here; keep everything beside it."
)
@click.option("--user", is_flag=True, help="Run for this user alone, without root: paths under XDG directories.")
@click.option("--verbose", "-v", is_flag=True, help="Log what the engines are started with, and more.")
@click.option("--watch-config", is_flag=True, help="Reload the configuration whenever its file changes.")
@click.version_option(__version__, prog_name="lmxd")
@click.pass_context
def main(
    context: click.Context,
    config_path: Path | None,
    socket_path: Path | None,
    user: bool,
    verbose: bool,
    watch_config: bool,
) -> None:
    """Admission control for GPU memory: leases instances of llama-server, vLLM and others over a Unix socket."""
    context.obj = config_path or default_config(user=user)
    log_to_stderr(verbose=verbose)
    if context.invoked_subcommand is not None:
        return
    try:
        _activate_failpoints()
        optional = user and config_path is None
        run(context.obj, places(socket_path, user=user), watch=watch_config, optional=optional)
    except LmxdError as error:
        log.error("%s", error)
        sys.exit(error.exit_status)


@main.command("check-config")
@click.option("--config", "config_path", type=click.Path(path_type=Path), help="Configuration file.")
@USER
@click.pass_context
def check_config(context: click.Context, config_path: Path | None) -> None:
    """Validate the configuration, and look for all that it names, without starting anything.

    As root, models are looked at with the eyes of the service's user.
    """
    import pynvml

    from lmxd.daemon.checks import check

    path: Path = config_path or context.obj
    try:
        config = load(path)
    except ConfigError as error:
        for problem in error.problems:
            say(f"{path}: error: {problem}", err=True)
        sys.exit(EX_CONFIG)
    found = check(config, pynvml, alone=context.find_root().params["user"] or path == user_config())
    for kind, sentences in (("error", found.errors), ("warning", found.warnings)):
        for sentence in sentences:
            say(f"{path}: {kind}: {sentence}", err=True)
    for name, at in found.engines.items() if len(found.engines) > 1 else ():
        say(f"{path}: engine {name}: {at}")
    counts = [_count(found.models, "model"), _count(len(found.errors), "error"), _count(len(found.warnings), "warning")]
    models, *amiss = counts[:1] + [words for words in counts[1:] if not words.startswith("0 ")]
    say(f"{path}: {'' if found.errors else 'ok, '}{', '.join((models, *amiss))}")
    if found.errors:
        sys.exit(EX_CONFIG)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"


def _activate_failpoints() -> None:
    try:
        failpoints.activate(os.environ.get("LMXD_FAILPOINT", ""))
    except ValueError as error:
        raise LmxdError("config", str(error)) from error


def run(config_path: Path, where: Places, *, watch: bool = False, optional: bool = False) -> None:
    """Run the daemon until SIGTERM or SIGINT. Raises LmxdError if it cannot start.

    ``watch``: the configuration is read again whenever its file changes. ``optional``: without one it runs, too.
    """
    keep_from_children()
    read = content(config_path) if watch else None  # before: what is changed meanwhile is read again
    if optional and not config_path.exists():
        log.warning("there is no %s yet: no model is served (lmxd scan writes one's models)", config_path)
        config = Config()
    else:
        config = load(config_path)
    with occupy(where):
        import uvloop

        descriptors()  # as many as may be: select(2), for which the usual bound is so low, is not used
        uvloop.run(_serve(config, config_path, where, read))


async def _serve(config: Config, config_path: Path, where: Places, read: bytes | None) -> None:
    import pynvml

    from lmxd.daemon.assembly import Daemon
    from lmxd.systemd import Notifier, activated_socket

    notifier, loop = Notifier(), asyncio.get_running_loop()
    told: asyncio.Future[signal.Signals] = loop.create_future()
    daemon = Daemon(config, config_path, where, pynvml)
    await daemon.begin()
    gc.collect()
    gc.freeze()  # modules and configuration stay: a decision is not to wait while they are looked through again
    metrics = await _metrics(daemon, config)
    sock = activated_socket()
    listening = sock or listen(where)
    if where.shared:
        admit_groups(listening)
    server = await loop.create_unix_server(daemon.listener, sock=listening)

    def end(number: signal.Signals) -> None:
        if not told.done():
            told.set_result(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, number)
    loop.add_signal_handler(signal.SIGHUP, lambda: loop.create_task(_reload(daemon, notifier)))
    if notifier.heard:
        daemon.on_change = lambda: notifier.status(daemon.health.summary())
    background = _background(daemon, notifier)
    if read is not None:
        background.append(loop.create_task(watched(config_path, read, lambda: _reload(daemon, notifier))))
    notifier.ready(daemon.health.summary())
    log.info("lmxd %s listens on %s: %s", __version__, where.socket, daemon.health.summary())
    await asyncio.wait([told, *background], return_when=asyncio.FIRST_COMPLETED)
    notifier.stopping()
    daemon.on_change = lambda: None
    server.close()
    await _end(daemon, drain=told.done() and told.result() == signal.SIGINT)
    if metrics is not None:
        await metrics.cleanup()
    if sock is None:
        where.socket.unlink(missing_ok=True)
    for task in background:
        if task.done():
            raise LmxdError("internal", f"a part of lmxd failed: {task.exception()!r}", "report this")
        task.cancel()


def _background(daemon: Daemon, notifier: Notifier) -> list[asyncio.Future[Any]]:
    """The parts that go on for as long as the daemon runs."""
    lasting = [daemon.measuring.keep(), daemon.pulse.keep()]
    if notifier.watchdog is not None:
        lasting.append(_feed_watchdog(daemon, notifier, notifier.watchdog / 4))
    return [asyncio.get_running_loop().create_task(each) for each in lasting]


async def _end(daemon: Daemon, *, drain: bool) -> None:
    """SIGINT is a person who wants all to end. After SIGTERM, what runs goes on, for the next lmxd to take over."""
    if drain:
        log.info("stopping: every instance ends")
        await daemon.drain()
        await daemon.listener.close()
    else:
        log.info("stopping: %d instances go on", len(daemon.admission.state.instances))
        hit("leaving")
        await daemon.leave()
        await daemon.listener.close(grace=0)


async def _metrics(daemon: Daemon, config: Config) -> AppRunner | None:
    if config.metrics.listen is None:
        return None
    return await daemon.metrics.serve(config.metrics.listen)


async def _reload(daemon: Daemon, notifier: Notifier) -> None:
    notifier.reloading()
    try:
        await daemon.reload()
    except LmxdError as error:
        log.error("the configuration in force stays: %s", error)
    notifier.ready(daemon.health.summary())


async def _feed_watchdog(daemon: Daemon, notifier: Notifier, period: float) -> None:
    """Feed the watchdog from the loop itself while it can work: a daemon that is stalled, or is blind, is restarted.

    A loop that was busy for seconds since the last time is not fed: it comes late to everybody, as to this.
    """
    loop = asyncio.get_running_loop()
    since = loop.time()
    while True:
        if daemon.health.fresh and daemon.pulse.steady_since(since):
            notifier.alive()
        since = loop.time()
        await asyncio.sleep(period)


if __name__ == "__main__":
    main()
