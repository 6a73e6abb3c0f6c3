"""``python -m play [NAME...]``: what lmxd says to the owners of machines. Without names: of all."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from click.testing import CliRunner
from house import fake_engine, model
from lmxd_process import Lmxd

from lmxd.cli.main import main as lmxctl
from play.machines import MACHINES, SAMPLES, build
from play.program import __file__ as PROGRAM

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


class PlayedLmxd(Lmxd):
    """The programs on another machine."""

    def __init__(self, directory: Path, config: dict[str, object], machine: Path) -> None:
        paths = f"{Path(PROGRAM).parent.parent}:{Path(PROGRAM).parent.parent.parent}"
        super().__init__(directory, config, {"PYTHONPATH": paths, "COLUMNS": "80"})
        self.machine = machine

    def daemon_command(self) -> list[str]:
        return [*self._program("lmxd"), "--config", str(self.config_path), "--socket", str(self.socket)]

    def command(self, *words: str) -> list[str]:
        return [*self._program("lmxctl"), *words]

    def check_config(self) -> subprocess.CompletedProcess[str]:
        command = [*self._program("lmxd"), "--config", str(self.config_path), "check-config"]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60)

    def _program(self, name: str) -> list[str]:
        return [sys.executable, PROGRAM, str(self.machine), name]


def engine(directory: Path, backends: str) -> Path:
    """A llama-server that says which devices it was built for."""
    fake, path = fake_engine(directory), directory / "built/llama-server"
    path.parent.mkdir()
    (path.parent / "devices").write_text(f"Available devices:\n{backends}")
    path.write_text(f'#!/bin/sh\n[ "$1" = --list-devices ] && exec cat {path.parent}/devices\nexec {fake} "$@"\n')
    path.chmod(0o755)
    return path


def tell(name: str, extra: dict[str, object]) -> None:
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
    extra: dict[str, object] = {}
    names = sys.argv[1:]
    if names and names[0].startswith("{"):
        extra = yaml.safe_load(names.pop(0))
    for name in names or [*MACHINES, *sorted(path.name for path in SAMPLES.iterdir() if path.is_dir())]:
        tell(name, extra)
