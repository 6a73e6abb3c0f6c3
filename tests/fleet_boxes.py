"""A fleet of real processes on this machine: a broker, boxes with lmxd and ``lmxd fleet node``, and a gateway."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import httpx
from fleet_broker import Broker
from fleet_node import Node
from forked import Forked
from free_ports import free_address
from house import fake_engine, model
from lmxd_process import Lmxd
from waiting import GENEROUS
from wires import Wire

from lmxd.config import keys
from lmxd.fleet.home import FleetHome
from lmxd.fleet.members import MemberRole

Models = Mapping[str, Mapping[str, Any]]
"""Name -> keys of its profile, and under ``play`` how the fake is to behave."""


class FleetGateway:
    """``with FleetGateway(home) as gateway``: ``key`` is that of a user."""

    def __init__(self, home: FleetHome) -> None:
        self.home = home
        config = home.settings.gateway
        assert config.keys_file is not None
        self.url = f"http://{config.listen}"
        self.key = keys.add(config.keys_file, "user", admin=False)
        self.log = home.state / "gateway.log"

    def __enter__(self) -> Self:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "lmxd", "fleet", "--home", str(self.home.state), "gateway"]
            self.process = Forked(command, stdout=log, stderr=log)
        Lmxd.until(self.answers)
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(GENEROUS)

    def answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return httpx.get(f"{self.url}/health", timeout=GENEROUS).status_code == 200
        except httpx.TransportError:
            return False

    def said(self, words: str) -> int:
        """How often its log has some words."""
        return self.log.read_text().count(words)

    def key_of(self, name: str) -> str:
        """The key of a new user."""
        file = self.home.settings.gateway.keys_file
        assert file is not None
        return keys.add(file, name, admin=False)

    def client(self, key: str | None = None) -> httpx.Client:
        """A client with a user's key, or another."""
        headers = {"Authorization": f"Bearer {key or self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=GENEROUS)

    def nodes_of(self, name: str) -> set[str]:
        """The nodes that have a model, as the gateway lists it."""
        with self.client() as client:
            listed = client.get("/v1/models").json()["data"]
        return next((set(each["meta"]["nodes"]) for each in listed if each["id"] == name), set())


class Boxes:
    """The fleet; ``nodes`` by name, and ``lmxds`` by the name of their node."""

    def __init__(self, directory: Path, broker: Broker, gateway: FleetGateway) -> None:
        self.directory, self.broker, self.gateway = directory, broker, gateway
        self.nodes: dict[str, Node] = {}
        self.join: Callable[[str, Models], Node]
        """A further box, with these models."""
        self.wires: dict[str, list[Wire]] = {}
        """The ways of a box to others and from them, where there are such."""
        self.lmxds: dict[str, Lmxd] = {}

    def chat(self, name: str = "m", text: str = "hi", **more: Any) -> httpx.Response:
        """One request of a client, and its whole answer."""
        headers = more.pop("headers", {})
        body = {"model": name, "messages": [{"role": "user", "content": text}]} | more
        with self.gateway.client() as client:
            return client.post("/v1/chat/completions", json=body, headers=headers)

    def warm(self, name: str = "m") -> None:
        """Have each node start an instance of a model: a node that has none gets nothing while others have slots."""
        body = {"model": name, "messages": [{"role": "user", "content": "hi"}]}
        for node in self.nodes.values():
            answer = node.asked_now("/v1/chat/completions", body, by=self.gateway.home)
            assert answer.status == 200, answer.text

    def cut_off(self, *names: str) -> Callable[[], None]:
        """Have nothing pass between those boxes and others; what is returned mends it."""
        wires = [wire for name in names for wire in self.wires[name]]

        def mend() -> None:
            for wire in wires:
                wire.mend()

        for wire in wires:
            wire.hold()
        return mend

    def until_known(self, name: str, *nodes: str) -> None:
        """Returns when the gateway lists a model at those nodes, and no others."""
        Lmxd.until(lambda: self.gateway.nodes_of(name) == set(nodes))


@contextlib.contextmanager
def boxes(
    directory: Path,
    models: Mapping[str, Models],
    *,
    gib: float = 1.0,
    gateway: Mapping[str, Any] | None = None,
    wired: bool = False,
    users: Mapping[str, Mapping[str, Any]] | None = None,
    **sections: Any,
) -> Iterator[Boxes]:
    """``models``: of each node by its name. ``gib``: memory of each. ``gateway``: keys of the gateway's section.

    ``wired``: nodes and the gateway have ``wires``. ``users``: of the fleet. ``sections``: of each lmxd's own
    configuration.
    """
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(Broker(made(directory / "broker")))
        section = {"listen": free_address(), "keys_file": str(directory / "keys")} | dict(gateway or {})
        wires: dict[str, list[Wire]] = {}

        def wire(name: str, target: str) -> str:
            wires.setdefault(name, []).append(stack.enter_context(Wire(target)))
            return wires[name][-1].address

        def way(name: str) -> dict[str, Any]:
            return {"brokers": [f"tls://{wire(name, broker.address)}"]} if wired else {}

        of_users = dict(users or {})
        front = FleetGateway(broker.box("g1", [MemberRole.GATEWAY], gateway=section, users=of_users, **way("g1")))
        found = Boxes(directory, broker, front)
        found.wires = wires

        def join(name: str, offered: Models) -> Node:
            listen = free_address()
            door = {"door": wire(name, listen), "listen": listen} if wired else {"door": listen}
            home = broker.box(name, [MemberRole.NODE], **door, **way(name))
            lmxd = found.lmxds[name] = stack.enter_context(lmxd_with(made(directory / name), offered, gib, **sections))
            found.nodes[name] = stack.enter_context(Node(lmxd, home))
            return found.nodes[name]

        found.join = join
        for name, offered in models.items():
            join(name, offered)
        stack.enter_context(front)
        for name in {name for offered in models.values() for name in offered}:
            found.until_known(name, *(node for node, offered in models.items() if name in offered))
        yield found


def made(directory: Path) -> Path:
    """A new directory."""
    directory.mkdir()
    return directory


def lmxd_with(place: Path, models: Models, gib: float = 1.0, **sections: Any) -> Lmxd:
    """A daemon with those models and so much memory, that is to be started. One with a ``path`` has the real engine."""
    profiles = {}
    for name, keyed in models.items():
        said = dict(keyed)
        if "path" in said:
            profiles[name] = said
            continue
        model(place, name, **said.pop("play", {}))
        profiles[name] = {"estimated_memory_gb": 0.5, "slots": 2} | said
    config = {"gpu": {"device": "host", "max_memory_gb": gib}, "model_dir": str(place), "models": profiles} | sections
    if not any("path" in said for said in profiles.values()):
        config["engine"] = {"path": str(fake_engine(place)), "stop_timeout": 2}
    return Lmxd(place, config)
