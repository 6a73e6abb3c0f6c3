"""Commands and brokers of a fleet as programs of their own, the way users run them."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from click.testing import CliRunner, Result
from forked import Forked
from free_ports import free_ports
from waiting import GENEROUS, wait_until

from lmxd.__main__ import main
from lmxd.fleet.home import FleetHome

SERVED = "are served"
"""What a broker's log says once members may come."""


class FleetBox:
    """A box in a directory. ``run`` is a command of its own; ``with box.broker():`` runs its broker."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.home = FleetHome.at(directory, user=False)
        self.log = directory.with_name(f"{directory.name}.log")

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "lmxd", "fleet", "--home", str(self.directory), *words]

    def done(self, *words: str, said: str = "") -> Result:
        """A command in this process, which is sooner than another; this machine's configuration counts for none."""
        config = str(self.directory.with_name("no-config.yaml"))
        all_words = ["--config", config, "fleet", "--home", str(self.directory), *words]
        return CliRunner().invoke(main, all_words, input=said, catch_exceptions=False)

    def run(self, *words: str, said: str = "") -> str:
        found = self.done(*words, said=said)
        assert found.exit_code == 0, found.output
        return found.stdout.strip()

    def init(self, name: str) -> str:
        """Begin a fleet, with free ports; what it says."""
        port = free_ports(4)
        place = ["--address", "127.0.0.1", "--port", str(port), "--door", str(port + 3)]
        return self.run("init", "home", "--node", name, *place)

    def broker(self) -> BrokerProcess:
        return BrokerProcess(self)


class BrokerProcess:
    """``lmxd fleet broker``, until the end of the block."""

    def __init__(self, box: FleetBox) -> None:
        self._box = box

    def __enter__(self) -> BrokerProcess:
        self._box.log.touch()
        before = self.said(SERVED)
        with self._box.log.open("ab") as log:
            self.process = Forked(self._box.command("broker"), stdout=log, stderr=log)
        wait_until(lambda: self._begun(before))
        return self

    def _begun(self, before: int) -> bool:
        assert self.process.poll() is None, self._box.log.read_text()
        return self.said(SERVED) > before

    def said(self, words: str) -> int:
        """How often its log has some words."""
        return self._box.log.read_text().count(words)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(GENEROUS)

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.end()
