"""Boxes with networks of their own, whose cable is pulled under a load of clients and put in again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from fleet_boxes import FleetGateway, lmxd_with, made
from fleet_broker import Broker
from fleet_load import FleetLoad
from fleet_node import Node
from free_ports import free_address, free_ports
from lmxd_process import Lmxd
from namespaces import Namespace, impossible
from waiting import until

from lmxd.fleet.members import MemberRole

pytestmark = pytest.mark.skipif(bool(impossible()), reason=f"no network namespace can be made: {impossible()}")
MODEL = {"m": {"slots": 4, "play": {"token_seconds": 0.02}}}
NODES = ("n1", "n2")


class FarLmxd(Lmxd):
    """lmxd and its engines in a namespace; people of that box talk to its socket."""

    where: Namespace

    def daemon_command(self) -> list[str]:
        return self.where.command(*super().daemon_command())


class FarNode(Node):
    """The node of such a box."""

    where: Namespace

    def command(self) -> list[str]:
        return self.where.command(*super().command())


class FarBoxes:
    """Two boxes, each behind a cable, and a gateway and a broker here."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.broker = Broker(made(directory / "broker"), listens="0.0.0.0")
        self.cables: dict[str, Namespace] = {}
        self.lmxds: dict[str, Lmxd] = {}
        stack.enter_context(self.broker)
        for number, name in enumerate(NODES):
            cable = self.cables[name] = stack.enter_context(Namespace(number))
            made_lmxd = lmxd_with(made(directory / name), MODEL)
            lmxd = FarLmxd(made_lmxd.directory, made_lmxd.config())
            lmxd.where = cable
            self.lmxds[name] = stack.enter_context(lmxd)
            door, way = f"{cable.address}:{free_ports(1)}", f"tls://{cable.gateway}:{self.broker.port}"
            node = FarNode(lmxd, self.broker.box(name, [MemberRole.NODE], door=door, brokers=[way]))
            node.where = cable
            stack.enter_context(node)
        section = {"listen": free_address(), "keys_file": str(directory / "keys")}
        home = self.broker.box("g1", [MemberRole.GATEWAY], gateway=section)
        self.gateway = stack.enter_context(FleetGateway(home))
        Lmxd.until(lambda: self.gateway.nodes_of("m") == set(NODES))

    def state(self, name: str) -> str:
        """A node as the gateway shows it."""
        with self.gateway.client() as client:
            nodes = client.get("/lmxd/state").json()["nodes"]
        return next(str(node["state"]) for node in nodes if node["node"] == name)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FarBoxes]:
    with ExitStack() as stack:
        yield FarBoxes(tmp_path_factory.mktemp("far"), stack)


async def test_a_cable_is_pulled_and_put_in_again(fleet: FarBoxes) -> None:
    load = FleetLoad(fleet.gateway.url, fleet.gateway.key)
    async with load.going_on():
        await until(lambda: load.each_is_served_by(NODES), seen=load.shown)
        fleet.cables["n1"].unplug()
        pulled_at = time.monotonic()
        await until(lambda: fleet.state("n1") == "silent")
        await until(lambda: load.each_has(3, pulled_at), seen=load.shown)
        with fleet.lmxds["n1"].client() as local, local.request("m", wait=60) as lease:
            assert lease.endpoint, "people of the box go on"
        fleet.cables["n1"].plug()
        again_at = time.monotonic()
        await until(lambda: load.each_is_served_by(("n1",), again_at), seen=load.shown)
    assert [each for each in load.broken() if each.status != 200 or each.node != "n1"] == []
    lmxds = fleet.lmxds.values()
    await until(lambda: not any(each.leases for lmxd in lmxds for each in lmxd.instances().values()))
    for lmxd in lmxds:
        with lmxd.client() as client:
            assert client.status().broken_invariants == [], "nothing was promised twice"
