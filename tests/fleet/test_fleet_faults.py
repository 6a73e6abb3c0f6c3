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
from fleet_load import FleetLoad, Outcome
from waiting import until

NODES = ("n1", "n2", "n3")
Fault = Callable[[Boxes], Callable[[], object]]
"""Brings a fault about; what it returns mends it."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Boxes]:
    """``m`` is at three nodes."""
    model = {"m": {"slots": 4, "play": {"token_seconds": 0.02}}}
    with boxes(tmp_path_factory.mktemp("fleet"), dict.fromkeys(NODES, model)) as found:
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


def served_by(outcomes: list[Outcome], node: str) -> int:
    return sum(each.whole for each in outcomes if each.node == node)


@pytest.mark.parametrize("fault", [node_killed, node_frozen, lmxd_killed, lmxd_frozen, broker_killed, broker_frozen])
async def test_clients_notice_no_more_than_a_stream_that_breaks_off(fleet: Boxes, fault: Fault) -> None:
    load = FleetLoad(fleet.gateway.url, fleet.gateway.key)
    async with load.going_on():
        await until(lambda: all(served_by(load.outcomes, node) >= 2 for node in NODES), 60)
        mend = await asyncio.to_thread(fault, fleet)
        try:
            fell_at = time.monotonic()
            await until(lambda: load.each_has(3, fell_at), 60)
        finally:
            await asyncio.to_thread(mend)
        begun = len(load.outcomes)
        await until(lambda: served_by(load.outcomes[begun:], "n1") >= 2, 60)
    broken = [each for each in load.outcomes if not each.whole]
    assert [each for each in broken if not each.stream or each.status != 200] == []
    assert len(broken) <= 4, "the streams that the node had when it fell"
    lmxds = fleet.lmxds.values()
    await until(lambda: not any(each.leases for lmxd in lmxds for each in lmxd.instances().values()))
    for lmxd in lmxds:
        with lmxd.client() as client:
            assert client.status().broken_invariants == []
