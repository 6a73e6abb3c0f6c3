"""``lmxctl``: all commands under one name."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from lmxd import __version__
from lmxd.terminal import Commands

_COMMANDS: Final = {
    "request": "lmxd.cli.leases:request",
    "grow": "lmxd.cli.leases:grow",
    "release": "lmxd.cli.leases:release",
    "touch": "lmxd.cli.leases:touch",
    "cancel": "lmxd.cli.leases:cancel",
    "run": "lmxd.cli.running:run",
    "hold": "lmxd.cli.running:hold",
    "ask": "lmxd.cli.conversation:ask",
    "chat": "lmxd.cli.conversation:chat",
    "status": "lmxd.cli.views:status",
    "ps": "lmxd.cli.views:ps",
    "queue": "lmxd.cli.views:queue",
    "devices": "lmxd.cli.views:devices",
    "models": "lmxd.cli.views:models",
    "logs": "lmxd.cli.views:logs",
    "version": "lmxd.cli.views:version",
    "top": "lmxd.cli.live:top",
    "estimate": "lmxd.cli.estimate:estimate",
    "estimates": "lmxd.cli.learned:estimates",
    "forget": "lmxd.cli.learned:forget",
    "why": "lmxd.cli.explanations:why",
    "plan": "lmxd.cli.explanations:plan",
    "explain": "lmxd.cli.explanations:explain",
    "stop": "lmxd.cli.admin:stop",
    "pin": "lmxd.cli.admin:pin",
    "drain": "lmxd.cli.admin:drain",
    "yield": "lmxd.cli.admin:yield_",
    "reload": "lmxd.cli.admin:reload",
    "fleet": "lmxd.cli.fleet.commands:fleet",
    "completion": "lmxd.completion:completion",
}
"""The place of each: scripts call one at a time, and are not to wait for what the others need."""


@click.group("lmxctl", cls=Commands, elsewhere=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--socket", "socket_path", type=click.Path(path_type=Path), help="The daemon's socket; LMXD_SOCKET by default."
)
@click.version_option(__version__, prog_name="lmxctl")
def main(socket_path: Path | None) -> None:
    """Lease language models from lmxd, and see what it does with the memory."""


if __name__ == "__main__":
    main()
