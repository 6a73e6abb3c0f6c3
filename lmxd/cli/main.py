"""``lmxctl``: all commands under one name."""

from __future__ import annotations

from pathlib import Path

import click

from lmxd import __version__
from lmxd.cli import admin, conversation, estimate, explanations, learned, leases, live, running, views
from lmxd.cli.fleet import commands as fleet
from lmxd.completion import completion
from lmxd.terminal import Commands


@click.group("lmxctl", cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--socket", "socket_path", type=click.Path(path_type=Path), help="The daemon's socket; LMXD_SOCKET by default."
)
@click.version_option(__version__, prog_name="lmxctl")
def main(socket_path: Path | None) -> None:
    """Lease language models from lmxd, and see what it does with the memory."""


for _command in (
    *leases.COMMANDS,
    *running.COMMANDS,
    *conversation.COMMANDS,
    *views.COMMANDS,
    *live.COMMANDS,
    *estimate.COMMANDS,
    *learned.COMMANDS,
    *explanations.COMMANDS,
    *admin.COMMANDS,
    *fleet.COMMANDS,
    completion,
):
    main.add_command(_command)

if __name__ == "__main__":
    main()
