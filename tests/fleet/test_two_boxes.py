"""A second box serves after two commands more than the first one needs for itself."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from fleet_boxes import FleetGateway, lmxd_with, made
from fleet_node import Node, free_address
from fleet_process import FleetBox, free_ports
from waiting import wait_until

from lmxd.fleet.home import FleetHome


def test_one_endpoint(tmp_path: Path) -> None:
    first, second = FleetBox(tmp_path / "first"), FleetBox(tmp_path / "second")
    first.init("n1")
    with first.home.config.open("a") as settings:
        settings.write(f"gateway: {{listen: '{free_address()}', keys_file: {tmp_path / 'keys'}}}\n")
    first = FleetBox(first.directory)
    with ExitStack() as held:
        held.enter_context(first.broker())
        one = held.enter_context(lmxd_with(made(tmp_path / "1"), {"here": {}}))
        two = held.enter_context(lmxd_with(made(tmp_path / "2"), {"there": {}}))
        held.enter_context(Node(one, first.home))
        front = held.enter_context(FleetGateway(first.home))
        wait_until(lambda: front.nodes_of("here") == {"n1"})

        second.run("join", first.run("token"), "--node", "n2", "--door", str(free_ports(1)))
        held.enter_context(Node(two, FleetHome.at(second.directory, user=False)))

        wait_until(lambda: front.nodes_of("there") == {"n2"})
        with front.client() as client:
            for name, node in (("here", "n1"), ("there", "n2")):
                body = {"model": name, "messages": [{"role": "user", "content": "hi"}]}
                found = client.post("/v1/chat/completions", json=body)
                assert (found.status_code, found.headers["X-Lmxd-Node"]) == (200, node)
        assert second.home.settings.fleet == "home"
