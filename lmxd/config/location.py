"""Where the configuration is: the system's, or the user's own."""

from __future__ import annotations

import os
from pathlib import Path

import click

from lmxd.config.file import DEFAULT_CONFIG
from lmxd.xdg import own_directory


def user_config() -> Path:
    """The path of the user's own configuration."""
    return own_directory("XDG_CONFIG_HOME", ".config") / "lmxd/config.yaml"


def default_config(*, user: bool) -> Path:
    """The configuration that a command is about if none is named.

    ``user``: it was said to be the user's own. Else the system's; but an ordinary user's own where it has none.
    """
    if user or (os.geteuid() != 0 and not DEFAULT_CONFIG.exists() and user_config().exists()):
        return user_config()
    return DEFAULT_CONFIG


def _chosen(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    root = context.find_root()
    if value:
        root.params["user"] = True
        context.obj = root.params.get("config_path") or user_config()


USER = click.option(
    "--user", is_flag=True, callback=_chosen, expose_value=False, help="As lmxd --user: the user's own configuration."
)
"""An option of commands that are about a configuration: it may be said after their names as well as before."""
