"""A request through a fleet's gateway and its node's door, beside a single node's gateway, over what computes nothing.

bench/fleet_gateway.py [--shortest]: one node, with the same clients, key checks and engine for all fronts: the lease's
own endpoint, ``lmxd gateway`` of the node, and ``lmxd fleet gateway`` before the node's door by mutual TLS. All share
this machine's cores; rounds are in rotating order. CPU is that of lmxd and of all gateways on the way.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from gateway_overhead import CHAT, Quietly, fronted, leased, rss
from http_load import Front, Load, compare

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from fleet_boxes import FleetGateway  # noqa: E402
from fleet_broker import Broker  # noqa: E402
from fleet_node import Node  # noqa: E402
from free_ports import free_address  # noqa: E402
from gateway_process import Gateway  # noqa: E402
from house import model  # noqa: E402
from lmxd_process import Lmxd  # noqa: E402

from lmxd.fleet.members import MemberRole  # noqa: E402


def engine(place: Path) -> Path:
    """A llama-server that computes nothing."""
    found = place / "llama-server"
    found.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT}/bench/fast_server.py "$@"\n')
    found.chmod(0o755)
    return found


def measure(place: Path, rounds: int, seconds: float) -> None:
    model(place, "m")
    config = {
        "gpu": {"device": "host", "max_memory_gb": 1},
        "engine": {"path": str(engine(place))},
        "model_dir": str(place),
        "models": {"m": {"estimated_memory_gb": 0.1, "slots": 256}},
    }
    (place / "broker").mkdir()
    with ExitStack() as stack:
        lmxd = stack.enter_context(Quietly(place, config))
        alone = stack.enter_context(Gateway(lmxd))
        broker = stack.enter_context(Broker(place / "broker"))
        home = broker.box("n1", [MemberRole.NODE], door=free_address())
        section = {"listen": free_address(), "keys_file": str(place / "fleet-keys")}
        node = stack.enter_context(Node(lmxd, home))
        fleet = stack.enter_context(FleetGateway(broker.box("g1", [MemberRole.GATEWAY], gateway=section)))
        Lmxd.until(lambda: fleet.nodes_of("m") == {"n1"}, 30)
        pids = (fleet.process.pid, node.process.pid, lmxd.process.pid)
        port = int(fleet.url.rpartition(":")[2])
        fronts = [leased(lmxd, "m"), fronted(alone), Front("fleet's gateway", port, fleet.key, "", pids)]
        chat = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
        stream = chat | {"stream": True, "chunks": 50}
        loads = [Load("small answers", clients, CHAT, chat) for clients in (1, 4)]
        loads += [Load("streams of 50 chunks", clients, CHAT, stream) for clients in (1, 4)]
        compare(fronts, loads, rounds, seconds)
        for name, process in (("fleet gateway", fleet.process), ("fleet node", node.process)):
            print(f"lmxd {name} has {rss(process.pid) / 2**20:.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shortest", action="store_true")
    given = parser.parse_args()
    rounds, seconds = (1, 0.1) if given.shortest else (4, 1.5)
    with tempfile.TemporaryDirectory() as place:
        measure(Path(place), rounds, seconds)
    print(f"{os.cpu_count()} cores; load of others: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
