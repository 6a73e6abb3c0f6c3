"""How a launch is told its cards: by UUID, unique id, or the number that a runtime has for a PCI address."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from engines.plans import plan_in
from lavapipe import manifest
from pydantic import TypeAdapter

from lmxd.accounts import engine_account
from lmxd.devices import pci
from lmxd.engines.command import CommandEngine
from lmxd.engines.engine import EngineKind, Plan
from lmxd.engines.environment import environment
from lmxd.engines.llama_cpp.binary import Binary, find, probe
from lmxd.engines.llama_cpp.command import command
from lmxd.engines.llama_cpp.selection import RuntimeDevice, listing, once, selection
from lmxd.engines.llama_cpp.server import LlamaServer
from lmxd.engines.visibility import Gpu, by_rocm
from lmxd.errors import LmxdError
from lmxd.estimate.backends import Backend
from lmxd.vendor import Vendor

NVIDIA = Gpu(id="GPU-a", vendor=Vendor.NVIDIA, pci="0000:01:00.0")
XTX = Gpu(id="GPU-5f1e3d2c4b5a6978", vendor=Vendor.AMD, pci="0000:03:00.0")
OLD_AMD = Gpu(id="0000:0a:00.0", vendor=Vendor.AMD, pci="0000:0a:00.0", rocm=1)
ARC = Gpu(id="0000:04:00.0", vendor=Vendor.INTEL, pci="0000:04:00.0")
RADV, AMDVLK, OWN_NVIDIA, LLVMPIPE = 3, 2, 4, 13


def device(pci: str, vendor: int = 0x1002, driver: int = RADV, kind: int = 2, name: str = "card") -> RuntimeDevice:
    return RuntimeDevice(name=name, vendor=vendor, kind=kind, driver=driver, pci=pci)


class Runtime:
    """A runtime with these devices, that remembers what it was asked and in which environment."""

    def __init__(self, *devices: RuntimeDevice) -> None:
        self.devices = devices
        self.asked: list[tuple[Sequence[str], Mapping[str, str]]] = []

    def __call__(self, program: Sequence[str], env: Mapping[str, str]) -> Sequence[RuntimeDevice]:
        self.asked.append((program, env))
        return self.devices


def selected(backend: Backend, *gpus: Gpu, runtime: Runtime | None = None, **env: str) -> dict[str, str]:
    return selection(backend, gpus, env, "libvulkan.so.1", runtime or Runtime())


def test_cuda_is_told_uuids_and_all_else_is_hidden() -> None:
    env = selected(Backend.CUDA, NVIDIA)
    assert env["CUDA_VISIBLE_DEVICES"] == "GPU-a"
    assert (env["ROCR_VISIBLE_DEVICES"], env["VK_DRIVER_FILES"]) == ("", "/dev/null")


def test_rocm_is_told_unique_ids_and_nothing_that_hip_would_take_for_numbers() -> None:
    env = selected(Backend.ROCM, XTX)
    assert env["ROCR_VISIBLE_DEVICES"] == XTX.id
    assert env["CUDA_VISIBLE_DEVICES"] == ""
    assert "HIP_VISIBLE_DEVICES" not in env


def test_a_card_without_unique_id_goes_by_rocms_number() -> None:
    assert by_rocm([OLD_AMD]) == {"ROCR_VISIBLE_DEVICES": "1"}
    assert by_rocm([XTX, OLD_AMD]) == {"ROCR_VISIBLE_DEVICES": f"{XTX.id},1"}
    assert by_rocm([XTX, replace(OLD_AMD, rocm=None)]) is None


def test_vulkan_is_told_the_number_of_the_address_whatever_the_order() -> None:
    runtime = Runtime(device("0000:0a:00.0"), device("", kind=4, vendor=0x10005), device("0000:03:00.0"))
    env = selected(Backend.VULKAN, XTX, runtime=runtime, RADV_PERFTEST="nogttspill")
    assert env["GGML_VK_VISIBLE_DEVICES"] == "2"
    assert not {"VK_DRIVER_FILES", "VK_ICD_FILENAMES", "GGML_DISABLE_VULKAN"} & env.keys(), "its drivers are needed"
    assert (env["CUDA_VISIBLE_DEVICES"], env["ROCR_VISIBLE_DEVICES"]) == ("", "")
    assert runtime.asked == [(("vulkan_devices.py", "libvulkan.so.1"), {"RADV_PERFTEST": "nogttspill"})]
    assert selected(Backend.VULKAN, XTX, OLD_AMD, runtime=runtime)["GGML_VK_VISIBLE_DEVICES"] == "2,0", "in the plan's"


def test_of_two_drivers_for_one_card_it_is_the_one_that_llama_cpp_would_take() -> None:
    runtime = Runtime(device("0000:03:00.0", driver=AMDVLK), device("0000:03:00.0", driver=RADV))
    assert selected(Backend.VULKAN, XTX, runtime=runtime)["GGML_VK_VISIBLE_DEVICES"] == "1"


def test_the_only_card_of_a_vendor_needs_no_address() -> None:
    runtime = Runtime(device("", kind=4, vendor=0x10005), device("", vendor=0x10DE, driver=OWN_NVIDIA))
    assert selected(Backend.VULKAN, NVIDIA, runtime=runtime)["GGML_VK_VISIBLE_DEVICES"] == "1"


@pytest.mark.parametrize(
    "devices",
    [
        (),
        (device("0000:0b:00.0"),),
        (device(""), device("")),
        (device("", vendor=0x8086),),
        (device("", kind=4, vendor=0x10005, driver=LLVMPIPE, name="llvmpipe"),),
    ],
)
def test_what_cannot_be_known_is_refused_with_a_remedy(devices: tuple[RuntimeDevice, ...]) -> None:
    with pytest.raises(LmxdError, match=r"cannot be told to use GPU-5f1e3d2c4b5a6978 at 0000:03:00\.0") as caught:
        selected(Backend.VULKAN, XTX, runtime=Runtime(*devices))
    assert caught.value.code == "engine_missing"
    assert "groups render and video" in caught.value.remedy


@pytest.mark.parametrize("name", ["VK_DRIVER_FILES", "VK_LOADER_DRIVERS_SELECT"])
def test_a_software_driver_is_taken_only_where_it_was_asked_for_by_name(name: str) -> None:
    runtime = Runtime(device("", kind=4, vendor=0x10005, driver=LLVMPIPE))
    env = selected(Backend.VULKAN, NVIDIA, runtime=runtime, **{name: "*lvp_icd*"})
    assert env["GGML_VK_VISIBLE_DEVICES"] == "0"


def test_sycl_is_told_numbers_of_level_zero() -> None:
    runtime = Runtime(device("0000:00:02.0", vendor=0x8086), device("0000:04:00.0", vendor=0x8086))
    env = selected(Backend.SYCL, ARC, runtime=runtime)
    assert env["ONEAPI_DEVICE_SELECTOR"] == "level_zero:1"
    assert runtime.asked[0][0] == ("level_zero_devices.py",)


def test_an_address_is_the_same_however_it_is_written() -> None:
    assert pci.address("00000000:0A:00.0") == pci.address("0000:0a:00.0") == "0000:0a:00.0"
    assert pci.address("10000:01:00.0") == "10000:01:00.0"


def build(*backends: Backend) -> Binary:
    return Binary(Path("/x/llama-server"), "1", frozenset({"--device"}), frozenset(backends))


def test_a_build_with_several_backends_is_told_which_devices_are_meant(tmp_path: Path) -> None:
    two = replace(NVIDIA, id="GPU-b", pci="0000:02:00.0")
    plan = replace(plan_in(tmp_path), gpus=(NVIDIA, two))
    argv = " ".join(command(build(Backend.CUDA, Backend.VULKAN), plan).argv)
    assert "--device CUDA0,CUDA1" in argv
    assert "--device" not in command(build(Backend.CUDA), replace(plan, gpus=(NVIDIA,))).argv


def test_a_split_names_its_devices_for_a_processors_gpu_would_be_left_out(tmp_path: Path) -> None:
    plan = replace(plan_in(tmp_path), gpus=(NVIDIA, replace(NVIDIA, id="GPU-b")))
    assert "--device CUDA0,CUDA1" in " ".join(command(build(Backend.CUDA), plan).argv)


def test_a_script_is_started_for_the_backend_that_it_listed(tmp_path: Path) -> None:
    """Of a wrapped Vulkan build, Vulkan is not hidden because NVIDIA's usual backend is another."""
    listing = "Available devices:\n  Vulkan0: NVIDIA H100 (1 MiB, 1 MiB free)\n"
    wrapped = tmp_path / "llama-server"
    wrapped.write_text(f"#!/bin/sh\ncat <<END\n{listing}END\n")
    wrapped.chmod(0o755)
    server = LlamaServer(wrapped, {"VK_DRIVER_FILES": str(manifest())})
    plan = replace(plan_in(tmp_path), gpus=(NVIDIA,))
    assert server.backends(frozenset({"GPU-a"})) == frozenset({Backend.VULKAN})
    env = server.command(plan).env
    assert (env["GGML_VK_VISIBLE_DEVICES"], env["CUDA_VISIBLE_DEVICES"]) == ("0", "")


def test_a_build_is_never_started_for_a_card_that_it_has_no_backend_for(tmp_path: Path) -> None:
    plan = replace(plan_in(tmp_path), gpus=(XTX,))
    with pytest.raises(LmxdError, match="has no backend for GPU-5f1e3d2c4b5a6978"):
        command(build(Backend.CUDA), plan)


def test_a_launch_in_ram_opens_no_driver(tmp_path: Path) -> None:
    env = command(build(Backend.VULKAN), replace(plan_in(tmp_path), gpus=())).env
    assert (env["GGML_DISABLE_VULKAN"], env["VK_DRIVER_FILES"], env["CUDA_VISIBLE_DEVICES"]) == ("1", "/dev/null", "")


def test_another_engine_is_told_by_its_vendors_runtime(tmp_path: Path) -> None:
    plan = replace(plan_in(tmp_path), kind=EngineKind.COMMAND, command=("/bin/x", "{socket}"), gpus=(XTX,))
    env = CommandEngine().command(plan).env
    assert (env["ROCR_VISIBLE_DEVICES"], env["CUDA_VISIBLE_DEVICES"]) == (XTX.id, "")
    assert env.get("VK_DRIVER_FILES") != "/dev/null"
    with pytest.raises(LmxdError, match="cannot be told to use"):
        CommandEngine().command(replace(plan, gpus=(ARC,)))


def test_a_log_that_names_another_card_contradicts_the_plan(tmp_path: Path) -> None:
    plan = replace(plan_in(tmp_path), gpus=(XTX,), model=None)
    log = [
        "llama_prepare_model_devices: using device Vulkan0 (AMD Radeon (RADV)) (0000:0a:00.0) - 15170 MiB free",
        "load_tensors:      Vulkan0 model buffer size =  4155.99 MiB",
    ]
    assert "0000:0a:00.0" in str(LlamaServer(None).misplaced(plan, log))
    right = [line.replace("0000:0a", "0000:03") for line in log]
    assert LlamaServer(None).misplaced(plan, right) is None
    assert LlamaServer(None).misplaced(plan, [log[0].replace("0000:0a:00.0", "unknown id"), log[1]]) is None


@pytest.fixture
def runtimes(tmp_path: Path) -> Path:
    """A directory with loaders of Vulkan and Level Zero that have three cards."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler here")
    source = Path(__file__).with_name("runtimes.c")
    for library in ("libvulkan.so.1", "libze_loader.so.1"):
        subprocess.run([compiler, "-shared", "-fPIC", "-w", "-o", tmp_path / library, source], check=True)
    return tmp_path


def test_vulkan_says_which_card_is_where(runtimes: Path) -> None:
    found = listing(None)(("vulkan_devices.py", str(runtimes / "libvulkan.so.1")), environment())
    *cards, processor = found
    assert [device.pci for device in cards] == ["0000:0a:00.0", "0001:03:00.0", ""]
    assert {(d.vendor, d.kind, d.driver, d.name) for d in cards} == {(0x1002, 2, RADV, "card")}
    assert (processor.kind, processor.name, processor.pci) == (4, "processor", "")


def test_level_zero_numbers_the_cards_of_all_its_drivers(runtimes: Path) -> None:
    found = listing(None)(("level_zero_devices.py",), environment({"LD_LIBRARY_PATH": str(runtimes)}))
    assert [device.pci for device in found] == ["0000:0a:02.0", "0001:03:02.0", ""]


def test_lavapipe_is_listed_by_the_engines_own_loader() -> None:
    env = environment({"VK_DRIVER_FILES": str(manifest()), "VK_ICD_FILENAMES": str(manifest())})
    (found,) = listing(None)(("vulkan_devices.py", probe(find(None)).vulkan), env)
    assert found.name.startswith("llvmpipe")
    assert (found.kind, found.driver, found.pci) == (4, LLVMPIPE, "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run an engine as another user")
def test_devices_are_listed_as_the_engines_user_sees_them(tmp_path: Path) -> None:
    secret = tmp_path / "lvp_icd.json"
    secret.write_text(manifest().read_text())
    secret.chmod(0o600)
    env = environment({"VK_DRIVER_FILES": str(secret), "VK_ICD_FILENAMES": str(secret)})
    program = ("vulkan_devices.py", probe(find(None)).vulkan)
    assert len(listing(None)(program, env)) == 1, "root may read what names the driver"
    assert listing(engine_account("nobody", shared=True))(program, env) == []
    tmp_path.chmod(0o755)
    open_to_all = environment({"VK_DRIVER_FILES": str(manifest()), "VK_ICD_FILENAMES": str(manifest())})
    assert len(listing(engine_account("nobody", shared=True))(program, open_to_all)) == 1


def test_a_driver_that_crashes_is_told_apart_from_one_that_is_not_there(runtimes: Path) -> None:
    crashing = runtimes / "crash.c"
    crashing.write_text("int vkEnumerateInstanceVersion(void *version) { __builtin_trap(); }")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", runtimes / "libcrash.so", crashing], check=True)
    with pytest.raises(LmxdError, match=r"devices of vulkan cannot be listed: it died of signal 4") as caught:
        listing(None)(("vulkan_devices.py", str(runtimes / "libcrash.so")), environment())
    assert caught.value.code == "engine_missing"


def test_a_runtime_is_asked_once_for_many_cards_also_if_it_hangs() -> None:
    runtime = Runtime(device("0000:0a:00.0"), device("0000:03:00.0"))
    lister = once(runtime)
    for gpu in (XTX, OLD_AMD):
        selection(Backend.VULKAN, [gpu], {}, "libvulkan.so.1", lister)
    assert len(runtime.asked) == 1
    asked = []

    def hangs(program: Sequence[str], env: Mapping[str, str]) -> Sequence[RuntimeDevice]:
        asked.append(program)
        raise LmxdError("engine_missing", "it timed out", "look")

    lister = once(hangs)
    for _ in range(2):
        with pytest.raises(LmxdError, match="it timed out"):
            lister(("vulkan_devices.py", "x"), {})
    assert len(asked) == 1


def test_a_machine_without_a_driver_lists_nothing() -> None:
    env = environment({"VK_DRIVER_FILES": "/dev/null", "VK_ICD_FILENAMES": "/dev/null"})
    assert listing(None)(("vulkan_devices.py", probe(find(None)).vulkan), env) == []
    assert listing(None)(("vulkan_devices.py", "/nowhere/libvulkan.so.1"), env) == []


@pytest.mark.parametrize("said", [{"gpus": [XTX.id], "cards": [asdict(XTX)]}, {"gpus": [asdict(XTX)]}])
def test_the_gpus_of_a_plan_are_known_again_whichever_lmxd_wrote_it(tmp_path: Path, said: dict[str, object]) -> None:
    plans = TypeAdapter(Plan)
    row = json.loads(plans.dump_json(replace(plan_in(tmp_path), gpus=(XTX,))))
    assert row["gpus"] == [asdict(XTX)]
    assert plans.validate_json(json.dumps(row | said)).gpus == (XTX,)
    oldest = plans.validate_json(json.dumps(row | {"gpus": ["GPU-a"]}))
    assert (oldest.gpus, oldest.gpu_ids) == ((Gpu(id="GPU-a"),), ("GPU-a",))
