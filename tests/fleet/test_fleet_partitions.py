"""Boxes that are cut off from one another, or lie behind, under a load of clients: no connection ends."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from fleet_boxes import Boxes, boxes
from fleet_load import FleetLoad
from waiting import until

NODES = ("n1", "n2")
LOST = "NATS is lost"
BEHIND = 10.0
"""Seconds by which all comes late that a node says on NATS."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Boxes]:
    """``m`` is at two nodes."""
    model = {"m": {"slots": 4, "play": {"token_seconds": 0.02}}}
    with boxes(tmp_path_factory.mktemp("fleet"), dict.fromkeys(NODES, model), wired=True) as found:
        found.warm()
        yield found


async def none_is_held(fleet: Boxes) -> None:
    """Returns when no node has a lease any more. Nothing was promised twice meanwhile."""
    lmxds = fleet.lmxds.values()
    await until(lambda: not any(each.leases for lmxd in lmxds for each in lmxd.instances().values()))
    for lmxd in lmxds:
        with lmxd.client() as client:
            assert client.status().broken_invariants == []


async def test_a_node_that_is_cut_off_is_left_and_serves_its_own_users(fleet: Boxes) -> None:
    load = FleetLoad(fleet.gateway.url, fleet.gateway.key)
    async with load.going_on():
        await until(lambda: load.each_is_served_by(NODES), seen=load.shown)
        mend = fleet.cut_off("n1")
        fell_at = time.monotonic()
        await until(lambda: load.each_has(3, fell_at), seen=load.shown)
        with fleet.lmxds["n1"].client() as local, local.request("m", wait=60) as lease:
            assert lease.endpoint
        mend()
        mended_at = time.monotonic()
        await until(lambda: load.each_is_served_by(("n1",), mended_at), seen=load.shown)
    assert [each for each in load.broken() if each.status != 200 or each.node != "n1"] == []
    await none_is_held(fleet)


@pytest.mark.parametrize("away", [("g1",), ("g1", "n1", "n2")], ids=["of the gateway", "of all"])
async def test_nobody_notices_that_nats_is_cut_off(fleet: Boxes, away: tuple[str, ...]) -> None:
    load = FleetLoad(fleet.gateway.url, fleet.gateway.key)
    losses = fleet.gateway.said(LOST)
    ways = [fleet.wires[name][-1] for name in away]
    async with load.going_on():
        await until(lambda: load.each_is_served_by(NODES), seen=load.shown)
        for way in ways:
            way.hold()
        await until(lambda: fleet.gateway.said(LOST) > losses, seen=load.shown)
        lost_at = time.monotonic()
        await until(lambda: load.each_has(3, lost_at), seen=load.shown)
        for way in ways:
            way.mend()
        await until(lambda: fleet.gateway.said("NATS is there again") > losses, seen=load.shown)
        found_at = time.monotonic()
        await until(lambda: load.each_is_served_by(NODES, found_at), seen=load.shown)
    assert load.broken() == []
    await none_is_held(fleet)


async def test_pieces_that_are_lost_are_noticed_by_nobody(fleet: Boxes) -> None:
    load = FleetLoad(fleet.gateway.url, fleet.gateway.key)
    for wires in fleet.wires.values():
        for wire in wires:
            wire.lose(0.05)
    async with load.going_on():
        await until(lambda: load.each_has(3, 0.0), seen=load.shown)
    for wires in fleet.wires.values():
        for wire in wires:
            wire.mend()
    assert load.broken() == []
    await none_is_held(fleet)


async def test_nobody_notices_a_node_that_lies_behind(fleet: Boxes) -> None:
    load, way = FleetLoad(fleet.gateway.url, fleet.gateway.key), fleet.wires["n1"][-1]
    async with load.going_on():
        await until(lambda: load.each_is_served_by(NODES), seen=load.shown)
        way.lose(1.0, BEHIND)
        fell_at = time.monotonic()
        await until(lambda: load.each_has(3, fell_at + BEHIND), seen=load.shown)
        way.mend()
        mended_at = time.monotonic()
        await until(lambda: load.each_is_served_by(("n1",), mended_at), seen=load.shown)
    assert load.broken() == []
