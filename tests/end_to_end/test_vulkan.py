"""The Vulkan path for real: llama-server on lavapipe, in the place of a card that NVML (a fake) reports."""

from __future__ import annotations

import json
from pathlib import Path

from devices.fake_nvml import FakeNvml
from house import House, card, fake_engine, http
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
        asked = json.dumps({"prompt": "The capital of France is", "n_predict": 4, "ignore_eos": True}).encode()
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


async def test_a_vulkan_engine_and_a_cuda_engine_serve_at_once_on_one_card(tmp_path: Path, smollm2: Path) -> None:
    drivers = {"VK_DRIVER_FILES": str(manifest()), "VK_ICD_FILENAMES": str(manifest())}
    cuda = tmp_path / "cuda" / "llama-server"
    cuda.parent.mkdir()
    listing = "Available devices:\n  CUDA0: card (1 MiB, 1 MiB free)"
    cuda.write_text(
        f'#!/bin/sh\n[ "$1" = --list-devices ] && echo "{listing}" && exit\nexec {fake_engine(tmp_path)} "$@"\n'
    )
    cuda.chmod(0o755)
    house = House(
        tmp_path,
        FakeNvml(card(24)),
        engines={
            "cuda": {"path": str(cuda)},
            "vulkan": {"path": str(find(None)), "environment": drivers, "load_timeout": 120},
        },
        models={"m": {"engine": "cuda"}, "smollm2": {"engine": "vulkan", "path": str(smollm2), "context_length": 512}},
    )
    async with house.open() as h, h.client() as lmxd:
        leases = [await lmxd.request(name) for name in ("m", "smollm2")]
        assert [set(lease.devices) for lease in leases] == [{"GPU-a"}, {"GPU-a"}]
        shown = []
        for lease in leases:
            launched = h.launched(lease.instance)
            assert launched is not None
            shown.append(h.env(launched))
        names = ("CUDA_VISIBLE_DEVICES", "GGML_VK_VISIBLE_DEVICES", "VK_DRIVER_FILES")
        assert [[env.get(name) for name in names] for env in shown] == [
            ["GPU-a", "", "/dev/null"],
            ["", "0", str(manifest())],
        ]
        asked = json.dumps({"prompt": "The capital of France is", "n_predict": 4}).encode()
        assert json.loads((await http(leases[1], "/completion", asked)).text)["tokens_predicted"] > 0
        assert (await http(leases[0], "/health")).status == 200


async def test_a_model_that_has_no_room_is_divided_and_answers(tmp_path: Path, smollm2: Path) -> None:
    drivers = {"VK_DRIVER_FILES": str(manifest()), "VK_ICD_FILENAMES": str(manifest())}
    house = House(
        tmp_path,
        FakeNvml(card(0.9)),
        gpu={"margin_gb": 0},
        engine={"path": str(find(None)), "environment": drivers, "load_timeout": 120},
        models={"smollm2": {"path": str(smollm2), "context_length": 512, "fit": "auto", "estimated_memory_gb": 1}},
    )
    async with house.open() as h, h.client() as lmxd:
        planned = await lmxd.plan("smollm2")
        assert planned.gpu_layers is not None
        lease = await lmxd.request("smollm2")
        assert set(lease.devices) == {"GPU-a", "host"}
        launched = h.launched(lease.instance)
        assert launched is not None
        log = launched.log.path.read_text()
        assert f"offloaded {planned.gpu_layers}/31 layers to GPU" in log
        asked = json.dumps({"prompt": "The capital of France is", "n_predict": 4, "ignore_eos": True}).encode()
        assert json.loads((await http(lease, "/completion", asked)).text)["tokens_predicted"] == 4
