"""``python -m play [NAME or DIRECTORY...]``: what lmxd says to the owners of machines. Without names: of all."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner
from house import fake_engine, model
from lmxd_process import Lmxd

from lmxd.cli.main import main as lmxctl
from play.daemon import PlayedLmxd
from play.directories import build
from play.machines import MACHINES

COMMANDS = (
    ("status",),
    ("models",),
    ("plan", "small"),
    ("request", "small", "--ttl", "60", "--hold", "ttl", "--no-wait"),
    ("devices",),
    ("ps",),
    ("plan", "huge"),
    ("request", "huge", "--no-wait"),
)


def tell(name: str, extra: dict[str, Any]) -> None:
    """Play one machine, and print what its owner would read."""
    print(f"\n######## {name}")
    with tempfile.TemporaryDirectory(prefix="play-") as at:
        directory = Path(at)
        machine = build(name, directory / "machine")
        for each in ("small", "huge"):
            model(directory, each)
        config = {
            "model_dir": at,
            "engine": {"path": str(fake_engine(directory)), "load_timeout": 20},
            "models": {"small": {}, "huge": {"estimated_memory_gb": 700}},
        } | extra
        lmxd = PlayedLmxd(directory, config, machine)
        checked = lmxd.check_config()
        print(f"$ lmxd check-config ({checked.returncode})\n{checked.stdout}{checked.stderr}")
        with lmxd:
            for words in COMMANDS:
                shown(lmxd, *words)
            with lmxd.client() as client:
                for device in client.devices().devices:
                    shown(lmxd, "why", device.ref)
        print(f"$ log\n{lmxd.log.read_text()}")


def shown(lmxd: Lmxd, *words: str) -> None:
    """A command in this process: to start a program for each takes most of the time."""
    os.environ |= {"LMXD_SOCKET": str(lmxd.socket), "COLUMNS": "80"}
    done = CliRunner().invoke(lmxctl, words)
    print(f"$ lmxctl {' '.join(words)} ({done.exit_code})\n{done.output}")


if __name__ == "__main__":
    extra: dict[str, Any] = {}
    names = sys.argv[1:]
    if names and names[0].startswith("{"):
        extra = yaml.safe_load(names.pop(0))
    for name in names or MACHINES:
        if name not in MACHINES and not Path(name, "proc").is_dir():
            sys.exit(f"{name}: neither the directory of a machine nor one of {', '.join(MACHINES)}")
        tell(name, extra)
