"""A node of which all that it says on NATS comes 10 s late: requests go elsewhere, and none of them fails."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from fleet_boxes import Boxes, boxes
from fleet_load import FleetLoad
from waiting import until

NODES = ("n1", "n2")
BEHIND = 10.0


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Boxes]:
    """``m`` is at two nodes."""
    model = {"m": {"slots": 4, "play": {"token_seconds": 0.02}}}
    with boxes(tmp_path_factory.mktemp("fleet"), dict.fromkeys(NODES, model), wired=True) as found:
        found.warm()
        yield found


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
