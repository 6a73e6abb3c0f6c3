"""The Vulkan path for real: llama-server on lavapipe, in the place of a card that NVML (a fake) reports."""

from __future__ import annotations

import json
from pathlib import Path

from devices.fake_nvml import FakeNvml
from house import House, card, http
from lavapipe import manifest

from lmxd.engines.llama_cpp.binary import find


async def test_a_model_is_selected_loaded_and_asked_over_vulkan(tmp_path: Path, smollm2: Path) -> None:
    drivers = {"VK_DRIVER_FILES": str(manifest()), "VK_ICD_FILENAMES": str(manifest())}
    house = House(
        tmp_path,
        FakeNvml(card(24)),
        engine={"path": str(find(None)), "environment": drivers, "load_timeout": 120},
        models={"smollm2": {"path": str(smollm2), "context_length": 512}},
    )
    async with house.open() as h, h.client() as lmxd:
        assert not [w for w in (await lmxd.status()).warnings if "llama-server" in w]
        lease = await lmxd.request("smollm2")
        assert set(lease.devices) == {"GPU-a"}
        launched = h.launched(lease.instance)
        assert launched is not None
        assert launched.process is not None
        env = h.env(launched)
        assert (env["GGML_VK_VISIBLE_DEVICES"], env["CUDA_VISIBLE_DEVICES"]) == ("0", "")
        assert launched.buffers > 100, "its weights are in a buffer of Vulkan0"
        asked = json.dumps({"prompt": "The capital of France is", "n_predict": 4}).encode()
        answer = await http(lease, "/completion", asked)
        assert answer.status == 200
        assert json.loads(answer.text)["tokens_predicted"] == 4


async def test_a_launch_in_ram_loads_no_driver(tmp_path: Path, smollm2: Path) -> None:
    drivers = {"VK_DRIVER_FILES": str(manifest()), "VK_ICD_FILENAMES": str(manifest())}
    house = House(
        tmp_path,
        engine={"path": str(find(None)), "environment": drivers, "load_timeout": 120},
        models={"smollm2": {"path": str(smollm2), "context_length": 512}},
    )
    async with house.open() as h, h.client() as lmxd:
        lease = await lmxd.request("smollm2")
        launched = h.launched(lease.instance)
        assert launched is not None
        assert launched.process is not None
        assert "libvulkan_lvp" not in Path(f"/proc/{launched.process.pid}/maps").read_text()
