"""The real llama-server under the restrictions of lmxd.service: system calls, address families, devices, places."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from lmxd_process import ask
from unit_process import PERFMON, ROOT, UID, UnitLmxd, interpreter, needs_unit, restrictions

from lmxd.instances import proc

pytestmark = needs_unit


@pytest.mark.parametrize("endpoint", ["unix", "tcp"])
def test_a_model_is_sized_started_asked_and_ended(tmp_path: Path, smollm2: Path, endpoint: str) -> None:
    config = {
        "gpu": {"device": "host", "max_memory_gb": 0.5},
        "engine": {"endpoint": endpoint},
        "models": {"smollm2": {"path": str(smollm2), "context_length": 2048}},
    }
    with UnitLmxd(tmp_path, config) as lmxd, lmxd.client() as client:
        lease = client.request("smollm2")
        (instance,) = client.instances().instances
        assert instance.pid is not None
        assert restrictions(instance.pid) == {
            "Uid": "\t".join([str(UID)] * 4),
            "CapPrm": "0" * 16,
            "CapEff": "0" * 16,
            "CapBnd": PERFMON,
            "CapAmb": "0" * 16,
            "NoNewPrivs": "1",
            "Seccomp": "2",
        }
        daemon = restrictions(lmxd.process.pid)
        assert (daemon["CapEff"], daemon["CapBnd"]) == (PERFMON, PERFMON), "it tells how much of a card is in use"
        assert "Paris" in ask(lease)
        assert client.status().warnings == []


def test_the_kernel_is_asked_who_listens_and_what_connections_do(tmp_path: Path) -> None:
    """An engine on a port starts, and is ended when it is idle, though somebody is connected who asks for nothing."""
    state = tmp_path / "state"
    command = [interpreter(), "-S", str(ROOT / "tests/fake_open_engine.py"), "127.0.0.1", "{port}", str(state)]
    config = {
        "gpu": {"device": "host", "max_memory_gb": 0.5},
        "idle_timeout": 1,
        "models": {"m": {"command": command, "open": True, "estimated_memory_gb": 0.1}},
    }
    made = UnitLmxd(tmp_path, config)
    (state / "go").touch()
    with made as lmxd, lmxd.client() as client:
        lease = client.request("m", hold="explicit")
        with socket.create_connection(("127.0.0.1", int(lease.endpoint.rpartition(":")[2]))):
            lmxd.until(lambda: not lmxd.instances())


def test_an_engine_of_several_processes_has_what_it_needs(tmp_path: Path) -> None:
    """It shares memory, makes directories and code, and asks for interfaces; and goes without a trace."""
    state = tmp_path / "state"
    command = [interpreter(), "-S", str(ROOT / "tests/fake_many.py"), str(state), "{port}"]
    config = {
        "gpu": {"device": "host", "max_memory_gb": 0.5},
        "models": {"m": {"command": command, "open": True, "estimated_memory_gb": 0.1}},
    }
    with UnitLmxd(tmp_path, config) as lmxd, lmxd.client() as client:
        client.request("m", hold="explicit")
        found = json.loads((state / "started").read_text())
        assert (Path("/dev/shm") / found["shared"]).exists()
        client.stop("m#1")
        lmxd.until(lambda: not lmxd.instances())
        assert not [pid for pid in found["pids"] if proc.lives(pid)]
        assert not (Path("/dev/shm") / found["shared"]).exists()
        assert [*(tmp_path / "runtime/i").glob("[!l]*")] == []
