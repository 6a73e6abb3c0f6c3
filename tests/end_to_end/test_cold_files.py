"""The daemon as a program of its own warms a cold model file while its request waits for another's bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from cached import drop, pages, pages_in_cache
from house import model
from lmxd_process import Lmxd

from lmxd.rpc.messages import Granted

Make = Callable[..., Lmxd]
HALF = {"estimated_memory_gb": 0.6}


def test_a_cold_file_is_warm_before_its_instance_starts(fake: Make, tmp_path: Path) -> None:
    model(tmp_path, "hot")
    cold = model(tmp_path, "cold")
    with cold.open("ab") as file:
        file.write(bytes(96 * 2**20))
    with fake(models={"hot": HALF, "cold": HALF}) as running, running.client() as one, running.client() as two:
        lease = one.request("hot")
        drop(cold)
        served: list[Granted] = []
        waits = threading.Thread(target=lambda: served.append(two.request("cold")))
        waits.start()
        running.until(lambda: pages_in_cache(cold) == pages(cold))
        assert running.instances().keys() == {lease.instance}, "its bytes are still another's"
        one.release(lease.lease)
        waits.join(30)
        assert served[0].instance == "cold#1"
