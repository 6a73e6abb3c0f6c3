"""The gateway as a program of its own, beside an ``Lmxd``."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from typing import Any

from forked import Forked, run
from free_ports import free_ports
from lmxd_process import Lmxd

from lmxd.config import keys


class Gateway:
    """``with Gateway(lmxd) as gateway``: ``key`` is a user's, ``admin`` an administrator's."""

    def __init__(self, lmxd: Lmxd, **settings: Any) -> None:
        self.lmxd = lmxd
        self.port = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        keys_file = lmxd.directory / "keys"
        section = {"listen": f"127.0.0.1:{self.port}", "keys_file": str(keys_file)} | settings
        self.config = lmxd.directory / "gateway.yaml"
        self.config.write_text(json.dumps(lmxd.config() | {"gateway": section}))
        self._keys_file = keys_file
        self.key, self.admin = keys.add(keys_file, "user", admin=False), keys.add(keys_file, "root", admin=True)
        self.log = lmxd.directory / "gateway.log"
        self.prefix: list[str] = []
        """A command that starts it."""

    def key_of(self, name: str) -> str:
        """The key of a new user."""
        return keys.add(self._keys_file, name, admin=False)

    def command(self, *words: str) -> list[str]:
        place = ["--config", str(self.config), "--socket", str(self.lmxd.socket)]
        return [sys.executable, "-m", "lmxd", *place, *words]

    def lmxd_command(self, *words: str) -> str:
        done = run(self.command(*words))
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def __enter__(self) -> Gateway:
        with self.log.open("ab") as log:
            self.process = Forked([*self.prefix, *self.command("gateway")], stdout=log, stderr=log)
        Lmxd.until(self.answers)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(30)

    def answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=2) as found:
                return bool(found.status == 200)
        except (urllib.error.URLError, OSError):
            return False
