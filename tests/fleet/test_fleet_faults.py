"""Processes of a fleet that are killed or frozen under a load of clients: an answer that had not begun comes from
another node, and nothing is held in the end that nobody uses."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest
from fleet_boxes import Boxes, boxes
from fleet_load import FleetLoad
from waiting import until

NODES = ("n1", "n2", "n3")
LOST = "NATS is lost"
"""Said by the gateway's log."""
Fault = Callable[[Boxes], Callable[[], object]]
"""Brings a fault about; what it returns mends it."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Boxes]:
    """``m`` is at three nodes."""
    model = {"m": {"slots": 4, "play": {"token_seconds": 0.02}}}
    with boxes(tmp_path_factory.mktemp("fleet"), dict.fromkeys(NODES, model)) as found:
        found.warm()
        yield found


def freeze_and_thaw(pid: int) -> Callable[[], None]:
    os.kill(pid, signal.SIGSTOP)
    return lambda: os.kill(pid, signal.SIGCONT)


def node_killed(fleet: Boxes) -> Callable[[], object]:
    fleet.nodes["n1"].end(signal.SIGKILL)
    return fleet.nodes["n1"].start


def node_frozen(fleet: Boxes) -> Callable[[], object]:
    return freeze_and_thaw(fleet.nodes["n1"].process.pid)


def lmxd_killed(fleet: Boxes) -> Callable[[], object]:
    fleet.lmxds["n1"].stop(signal.SIGKILL)
    return fleet.lmxds["n1"].start


def lmxd_frozen(fleet: Boxes) -> Callable[[], object]:
    return freeze_and_thaw(fleet.lmxds["n1"].process.pid)


def broker_killed(fleet: Boxes) -> Callable[[], object]:
    fleet.broker.end(signal.SIGKILL)
    return fleet.broker.start


def broker_frozen(fleet: Boxes) -> Callable[[], object]:
    assert fleet.broker.process is not None
    return freeze_and_thaw(fleet.broker.process.pid)


@pytest.mark.parametrize(
    ("fault", "cut"),
    [
        (node_killed, {"n1"}),
        (node_frozen, {"n1"}),
        (lmxd_killed, {"n1"}),
        (lmxd_frozen, {"n1"}),
        (broker_killed, set()),
        (broker_frozen, set()),
    ],
)
async def test_clients_notice_no_more_than_an_answer_that_breaks_off(fleet: Boxes, fault: Fault, cut: set[str]) -> None:
    """``cut``: the nodes of which answers may break off that had begun, as their status tells."""
    load = FleetLoad(fleet.gateway.url, fleet.gateway.key)
    losses = fleet.gateway.said(LOST)
    async with load.going_on():
        await until(lambda: load.each_is_served_by(NODES), seen=load.shown)
        mend = await asyncio.to_thread(fault, fleet)
        try:
            if not cut:
                await until(lambda: fleet.gateway.said(LOST) > losses, seen=load.shown)  # 6 s: three pings
            fell_at = time.monotonic()
            await until(lambda: load.each_has(3, fell_at), seen=load.shown)
        finally:
            await asyncio.to_thread(mend)
        mended_at = time.monotonic()
        await until(lambda: load.each_is_served_by(("n1",), mended_at), seen=load.shown)
    assert [each for each in load.broken() if each.status != 200 or each.node not in cut] == []
    lmxds = fleet.lmxds.values()
    await until(lambda: not any(each.leases for lmxd in lmxds for each in lmxd.instances().values()))
    for lmxd in lmxds:
        with lmxd.client() as client:
            assert client.status().broken_invariants == []
