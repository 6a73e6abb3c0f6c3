"""The units of a user's own systemd, as the package has them, for the program that runs."""

from __future__ import annotations

import importlib.resources
import sys
from collections.abc import Iterable
from pathlib import Path

from lmxd.errors import LmxdError
from lmxd.xdg import own_directory


def own_units(names: Iterable[str]) -> dict[Path, str]:
    """The text of each unit by its path. LmxdError ``config`` if a unit cannot name the program."""
    home = own_directory("XDG_CONFIG_HOME", ".config") / "systemd/user"
    program = _quoted(str(Path(sys.executable).with_name("lmxd")))
    templates = importlib.resources.files("lmxd.setup").joinpath("units")
    return {
        home / name: templates.joinpath(name).read_text(encoding="utf-8").replace("@BINDIR@/lmxd", program)
        for name in names
    }


def _quoted(path: str) -> str:
    """A program's path as a unit has it (systemd.service(5), "Command lines"). LmxdError ``config`` if it cannot."""
    if not path.isprintable():
        raise LmxdError("config", f"a unit cannot name {path}", "install lmxd in another directory")
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'
