"""A real nats-server for tests, with TLS and the permissions of a fleet's members, without a broker's process."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fleet_home import box
from free_ports import free_ports
from waiting import GENEROUS, wait_until

from lmxd.fleet import bus
from lmxd.fleet.authority.bucket import make
from lmxd.fleet.authority.certificates import Authority, key_hash
from lmxd.fleet.authority.nats_config import BusServer, configuration
from lmxd.fleet.authority.nats_server import program
from lmxd.fleet.home import FleetHome
from lmxd.fleet.members import Member, MemberRole


class Broker:
    """``with Broker(directory) as broker``: ``box`` makes homes of members, whom it lets in from then on."""

    def __init__(self, directory: Path, fleet: str = "home", *, listens: str = "127.0.0.1") -> None:
        self.directory, self.authority = directory, Authority.new(fleet)
        self.port = free_ports(1)
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"tls://{self.address}"
        self.members: dict[Member, str] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self.file, self.log = directory / "nats.conf", directory / "nats.log"
        self.home = self.box("b1", [MemberRole.BROKER])
        self._listens = f"{listens}:{self.port}"

    def box(self, name: str, roles: Iterable[MemberRole], **settings: Any) -> FleetHome:
        """The home of a box that has joined."""
        roles = list(roles)
        home = box(self.authority, self.directory / name, name, roles, **({"brokers": [self.url]} | settings))
        self.admit(home, *roles)
        return home

    def admit(self, home: FleetHome, *roles: MemberRole) -> None:
        """Let in that box, by the keys that it has now."""
        found = {home.member(role): key_hash(home.certificate(role).read_bytes()) for role in roles}
        self._of(self.members | found)

    def forget(self, *members: Member) -> None:
        self._of({member: key for member, key in self.members.items() if member not in members})

    def _of(self, members: dict[Member, str]) -> None:
        self.members = members
        if self.process is not None:
            loads = self.log.read_text().count("Reloaded")
            self._write()
            self.process.send_signal(signal.SIGHUP)
            wait_until(lambda: self.log.read_text().count("Reloaded") > loads)

    def _write(self) -> None:
        role = MemberRole.BROKER
        server = BusServer(
            member=self.home.member(role),
            address=self._listens,
            certificate=self.home.certificate(role),
            key=self.home.key(role),
            ca=self.home.ca,
            data=self.directory / "data",
        )
        self.file.write_text(configuration(server, self.members))

    def start(self) -> None:
        self._write()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([program(), "-c", str(self.file)], stdout=log, stderr=log)
        wait_until(self._is_ready)

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        return "Server is ready" in self.log.read_text()

    def end(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(GENEROUS)
            self.process = None

    def __enter__(self) -> Broker:
        self.start()
        asyncio.run(self._make_bucket())
        return self

    async def _make_bucket(self) -> None:
        client = await bus.connect(self.home, MemberRole.BROKER)
        await make(client, 1)
        await client.close()

    def __exit__(self, *_: object) -> None:
        self.end()
