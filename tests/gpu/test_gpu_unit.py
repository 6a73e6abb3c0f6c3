"""A CUDA llama-server under the restrictions of lmxd.service. By hand, where there is a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import synthetic
from gpu.this_gpu import needs_gpu
from lmxd_process import ask
from unit_process import UID, UnitLmxd, needs_unit, restrictions

pytestmark = [
    needs_unit,
    needs_gpu,
    pytest.mark.timeout(300),
]


@pytest.mark.parametrize("endpoint", ["unix", "tcp"])
def test_a_model_of_a_gpu_is_sized_started_asked_and_ended(tmp_path: Path, endpoint: str) -> None:
    models = tmp_path / "models"
    models.mkdir(mode=0o755)
    synthetic.write(models / "qwen4b.gguf", *synthetic.speaking(synthetic.qwen3_4b()))
    config = {
        "engine": {"endpoint": endpoint},
        "model_dir": str(models),
        "models": {"qwen4b": {"context_length": 8192}},
    }
    with UnitLmxd(tmp_path, config) as lmxd, lmxd.client() as client:
        (device,) = client.status().devices
        lease = client.request("qwen4b")
        (instance,) = client.instances().instances
        assert instance.pid is not None
        found = restrictions(instance.pid)
        assert (found["Uid"].split()[0], found["CapPrm"], found["Seccomp"]) == (str(UID), "0" * 16, "2")
        assert isinstance(ask(lease), str)
        (charged,) = instance.charged.values()
        measured = client.why(device.id)
        assert [x.instance for x in measured.instances] == [instance.instance]
        assert measured.instances[0].measured > 2**30, "its bytes are on the GPU"
        assert abs(measured.instances[0].measured - measured.instances[0].promised) < charged / 50
        print(device.id, measured.model_dump_json())
        assert client.status().warnings == []
