"""The real llama-server under the restrictions of lmxd.service: system calls, address families, devices, places."""

from __future__ import annotations

from pathlib import Path

from lmxd_process import ask
from unit_process import UID, UnitLmxd, needs_unit, restrictions

pytestmark = needs_unit


def test_a_model_is_sized_started_asked_and_ended(tmp_path: Path, smollm2: Path) -> None:
    config = {
        "gpu": {"device": "host", "max_memory_gb": 0.5},
        "engine": {"endpoint": "tcp"},
        "models": {"smollm2": {"path": str(smollm2), "context_length": 2048}},
    }
    with UnitLmxd(tmp_path, config) as lmxd, lmxd.client() as client:
        lease = client.request("smollm2")
        (instance,) = client.instances().instances
        assert instance.pid is not None
        assert restrictions(instance.pid) == {
            "Uid": "\t".join([str(UID)] * 4),
            "CapBnd": "0" * 16,
            "NoNewPrivs": "1",
            "Seccomp": "2",
        }
        assert "Paris" in ask(lease)
        assert client.status().warnings == []
