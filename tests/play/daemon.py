"""The daemon and its commands as programs, on a played machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from lmxd_process import Lmxd

from play.program import __file__ as PROGRAM


class PlayedLmxd(Lmxd):
    """The programs on another machine."""

    def __init__(self, directory: Path, config: dict[str, Any], machine: Path) -> None:
        paths = f"{Path(PROGRAM).parent.parent}:{Path(PROGRAM).parent.parent.parent}"
        super().__init__(directory, config, {"PYTHONPATH": paths, "COLUMNS": "80"})
        self.machine = machine

    def daemon_command(self) -> list[str]:
        return [*self._program("lmxd"), "--config", str(self.config_path), "--socket", str(self.socket)]

    def command(self, *words: str) -> list[str]:
        return [*self._program("lmxctl"), *words]

    def check_config(self) -> subprocess.CompletedProcess[str]:
        return self._run("--config", str(self.config_path), "check-config")

    def init(self, directory: Path) -> subprocess.CompletedProcess[str]:
        """The configuration that is proposed for the models in a directory."""
        return self._run("init", str(directory))

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._program("lmxd"), *words], env=self.env, capture_output=True, text=True, timeout=60
        )

    def _program(self, name: str) -> list[str]:
        return [sys.executable, PROGRAM, str(self.machine), name]
