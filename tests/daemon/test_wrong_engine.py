"""A llama-server without a backend for the GPUs that there are: told before the first request, charged nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from devices.fake_nvml import FakeNvml
from house import House, card, fake_engine, model
from lavapipe import manifest

from lmxd.__main__ import main
from lmxd.catalog.gpu_support import usable_gpus
from lmxd.devices.measurement import DeviceKind, Measurement
from lmxd.devices.roots import Roots
from lmxd.engines.llama_cpp.server import LlamaServer
from lmxd.errors import LmxdError
from lmxd.migrate.entries import FoundModel
from lmxd.setup.new_configuration import configuration
from lmxd.vendor import Vendor


def engine(directory: Path, listing: str) -> Path:
    """The fake llama-server as a build that lists these devices."""
    fake, path = fake_engine(directory), directory / "build" / "llama-server"
    path.parent.mkdir()
    (path.parent / "devices").write_text(f"Available devices:\n{listing}\n")
    path.write_text(f'#!/bin/sh\n[ "$1" = --list-devices ] && exec cat {path.parent}/devices\nexec {fake} "$@"\n')
    path.chmod(0o755)
    return path


def house(tmp_path: Path, listing: str, **gpu: object) -> House:
    model(tmp_path, "m")
    return House(
        tmp_path,
        FakeNvml(card(24)),
        engine={"path": str(engine(tmp_path, listing))},
        models={"m": {"estimated_memory_gb": 1}},
        gpu=gpu,
    )


async def test_a_build_for_the_cpu_is_told_and_nothing_is_charged_to_the_gpu(tmp_path: Path) -> None:
    async with house(tmp_path, "  (none)").open() as h, h.client() as lmxd:
        (said,) = [w for w in (await lmxd.status()).warnings if "llama-server" in w]
        assert "is built for the CPU alone, and no model of it can run on GPU 0" in said
        with pytest.raises(LmxdError, match="no model of it can run on GPU 0") as caught:
            await lmxd.request("m")
        assert (caught.value.code, "set engine.path" in caught.value.remedy) == ("engine_missing", True)
        (device,) = (await lmxd.devices()).devices
        assert device.charged == 0


async def test_a_reload_says_so_again(tmp_path: Path) -> None:
    async with house(tmp_path, "  (none)").open() as h, h.client() as lmxd:
        del h
        assert any("is built for the CPU alone" in said for said in (await lmxd.reload()).warnings)


async def test_where_ram_is_configured_its_models_run_there(tmp_path: Path) -> None:
    async with house(tmp_path, "  (none)", devices=[0, "host"]).open() as h, h.client() as lmxd:
        lease = await lmxd.request("m")
        assert set(lease.devices) == {"host"}
        launched = h.launched(lease.instance)
        assert launched is not None
        assert h.env(launched)["CUDA_VISIBLE_DEVICES"] == ""


async def test_a_build_that_lists_the_card_is_not_told_of(tmp_path: Path) -> None:
    async with house(tmp_path, "  CUDA0: card (1 MiB, 1 MiB free)").open() as h, h.client() as lmxd:
        assert not [w for w in (await lmxd.status()).warnings if "llama-server" in w]
        assert set((await lmxd.request("m")).devices) == {"GPU-a"}


def test_check_config_says_it_without_a_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(card(24)))
    made = house(tmp_path, "  (none)")
    found = CliRunner().invoke(main, ["check-config", "--config", str(made.config_path)])
    assert found.exit_code == 0
    assert "warning: llama-server" in found.output
    assert "is built for the CPU alone" in found.output


def test_check_config_reckons_with_the_card_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = card(12)
    small.name, small.cores, small.compute = "NVIDIA GeForce RTX 3060", 3584, (8, 6)
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(small))
    made = house(tmp_path, "  CUDA0: card (1 MiB, 1 MiB free)")
    made.write(models={"m": {"estimated_memory_gb": 0.3}})
    found = CliRunner().invoke(main, ["check-config", "--config", str(made.config_path)])
    assert (found.exit_code, "estimated_memory_gb" in found.output) == (0, False)


def test_init_says_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(card(24)))
    monkeypatch.setenv("PATH", f"{engine(tmp_path, '  (none)').parent}:{os.environ['PATH']}")
    found = FoundModel()
    configuration([], found)
    assert any("is built for the CPU alone" in said for said in found.left)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("LD_PRELOAD", "it loads other code into the engine"),
        ("CUDA_VISIBLE_DEVICES", "lmxd sets it"),
        ("GGML_CUDA_ENABLE_UNIFIED_MEMORY", "it moves bytes to where they were not admitted"),
        ("HSA_OVERRIDE_GFX_VERSIO", "did you mean HSA_OVERRIDE_GFX_VERSION?"),
        ("LLAMA_ARG_CTX_SIZE", "is not a variable that engines may be given"),
    ],
)
def test_what_no_engine_may_be_given_is_refused_by_name(tmp_path: Path, name: str, why: str) -> None:
    made = house(tmp_path, "")
    made.write(engine={"environment": {name: "x"}})
    found = CliRunner().invoke(main, ["check-config", "--config", str(made.config_path)])
    assert found.exit_code == 78
    assert "engine.environment" in found.output
    assert why in found.output


async def test_variables_of_a_card_come_from_the_configuration_and_the_daemons_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RADV_PERFTEST", "nogttspill")
    monkeypatch.setenv("HSA_OVERRIDE_GFX_VERSION", "10.3.0")
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    monkeypatch.setenv("LD_PRELOAD", "")
    made = house(tmp_path, "  CUDA0: card (1 MiB, 1 MiB free)")
    path = made.sections["engine"]["path"]
    made.write(engine={"path": path, "environment": {"HSA_OVERRIDE_GFX_VERSION": "11.0.0", "ZES_ENABLE_SYSMAN": 1}})
    async with made.open() as h, h.client() as lmxd:
        launched = h.launched((await lmxd.request("m")).instance)
        assert launched is not None
        env = h.env(launched)
        assert env["HSA_OVERRIDE_GFX_VERSION"] == "11.0.0", "the configuration's goes before"
        assert (env["RADV_PERFTEST"], env["ZES_ENABLE_SYSMAN"]) == ("nogttspill", "1")
        assert env["OMP_WAIT_POLICY"] == "passive", "its threads leave the cores to the engines beside it"
        assert "LD_PRELOAD" not in env


BROKEN = "#!/bin/sh\nexec /nowhere/llama-server\n"


@pytest.mark.parametrize("text", [None, BROKEN])
def test_check_config_and_init_say_that_there_is_no_engine_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    path = tmp_path / "bin/llama-server"
    path.parent.mkdir()
    if text is not None:
        path.write_text(text)
        path.chmod(0o755)
    config = tmp_path / "config.yaml"
    config.write_text(f"gpu: {{device: host}}\nengine: {{path: {path}}}\n")
    found = CliRunner().invoke(main, ["check-config", "--config", str(config)])
    assert str(path) in found.output
    assert found.output.count("is not an executable file" if text is None else "does not run") == 1
    if text is not None:
        monkeypatch.setenv("PATH", str(path.parent))
        made = FoundModel()
        configuration([], made)
        assert len([said for said in made.left if "does not run" in said]) == 1


async def test_an_engine_that_lacked_its_driver_is_found_when_a_card_comes(tmp_path: Path) -> None:
    made = house(tmp_path, "  CUDA0: card (1 MiB, 1 MiB free)", device=0)
    path = tmp_path / "build/llama-server"
    works = path.read_text()
    path.write_text(BROKEN)
    made.nvml.init_fault = 9
    async with made.open() as h, h.client() as lmxd:
        status = await lmxd.status()
        assert [w for w in status.warnings if "does not run" in w]
        assert status.engine == "none"
        path.write_text(works)
        made.nvml.init_fault = None
        assert set((await lmxd.request("m")).devices) == {"GPU-a"}
        status = await lmxd.status()
        assert status.engine.startswith(str(path))
        assert not [w for w in status.warnings if "llama-server" in w]


@pytest.mark.parametrize("amiss", ["no driver", "nothing"])
async def test_a_card_that_the_builds_runtime_does_not_find_is_told_before_the_first_request(
    tmp_path: Path, amiss: str
) -> None:
    path = "/dev/null" if amiss == "no driver" else str(manifest())
    made = house(tmp_path, "  Vulkan0: card (1 MiB, 1 MiB free)")
    made.write(engine=made.sections["engine"] | {"environment": {"VK_DRIVER_FILES": path, "VK_ICD_FILENAMES": path}})
    async with made.open() as h, h.client() as lmxd:
        said = [w for w in (await lmxd.status()).warnings if "llama-server" in w]
    if amiss == "no driver":
        assert "cannot be told to use GPU-a" in said[0]
        assert "its Vulkan finds no device" in said[0]
        assert "mesa-vulkan-drivers" in said[0]
    assert len(said) == (amiss == "no driver")


async def test_a_card_that_sleeps_is_not_woken_to_find_out(tmp_path: Path) -> None:
    made = house(tmp_path, "  (none)")
    status = made.roots.sys / "class/drm/card1/device/power/runtime_status"
    status.parent.mkdir(parents=True)
    status.write_text("suspended\n")
    async with made.open() as h, h.client() as lmxd:
        del h
        assert not [w for w in (await lmxd.status()).warnings if "llama-server" in w]
        status.write_text("active\n")
        assert [w for w in (await lmxd.reload()).warnings if "is built for the CPU alone" in w]


@pytest.mark.parametrize("asleep", [True, False])
def test_a_build_for_vulkan_does_not_list_cards_while_one_sleeps(tmp_path: Path, asleep: bool) -> None:
    status = tmp_path / "class/drm/card0/device/power/runtime_status"
    status.parent.mkdir(parents=True)
    status.write_text("suspended\n" if asleep else "active\n")
    gone = Measurement(id="0000:03:00.0", ref="0", kind=DeviceKind.GPU, name="x", vendor=Vendor.AMD, pci="0000:03:00.0")
    llama = LlamaServer(None, {"VK_DRIVER_FILES": "/dev/null", "VK_ICD_FILENAMES": "/dev/null"})
    said = [w for w in usable_gpus(llama, [gone], Roots(sys=tmp_path)).warnings() if "its Vulkan finds" in w]
    assert len(said) == (not asleep)
