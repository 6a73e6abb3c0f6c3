"""The GPUs that a build of llama-server can use, and what is said where it can use none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lmxd.catalog.gpu_support import GpuSupport, warnings
from lmxd.catalog.layout import Layout
from lmxd.core.words import DeviceId
from lmxd.devices.measurement import HOST, DeviceKind
from lmxd.engines.visibility import Gpu
from lmxd.errors import LmxdError
from lmxd.estimate.backends import Backend
from lmxd.vendor import Vendor

NVIDIA, AMD, INTEL, RAM = DeviceId("GPU-n"), DeviceId("GPU-a"), DeviceId("0000:04:00.0"), DeviceId(HOST)
VENDORS = {NVIDIA: Vendor.NVIDIA, AMD: Vendor.AMD, INTEL: Vendor.INTEL}


def usable(*backends: Backend, of: tuple[DeviceId, ...] = tuple(VENDORS)) -> GpuSupport:
    return GpuSupport(
        engine="llama-server /x",
        backends=frozenset(backends),
        gpus={gpu: Gpu(id=gpu, vendor=VENDORS[gpu]) for gpu in of},
        names={AMD: "Radeon RX 7900 XTX"},
    )


def layout(*devices: DeviceId) -> Layout:
    return Layout({d: DeviceKind.HOST if d == RAM else DeviceKind.GPU for d in devices})


@pytest.mark.parametrize(
    ("backends", "left"),
    [
        ({Backend.CUDA}, {NVIDIA}),
        ({Backend.ROCM}, {AMD}),
        ({Backend.SYCL}, {INTEL}),
        ({Backend.VULKAN}, {NVIDIA, AMD, INTEL}),
        ({Backend.CUDA, Backend.ROCM}, {NVIDIA, AMD}),
    ],
)
def test_on_a_mixed_machine_a_build_has_the_cards_of_its_backends(backends: set[Backend], left: set[DeviceId]) -> None:
    assert usable(*backends).of(layout(NVIDIA, AMD, INTEL)).kinds.keys() == left


def test_not_knowing_the_backends_all_are_taken() -> None:
    everything = layout(NVIDIA, AMD, RAM)
    assert GpuSupport().of(everything) == everything
    assert not list(GpuSupport(gpus={AMD: Gpu(id=AMD, vendor=Vendor.AMD)}).warnings())


def test_a_model_goes_to_ram_only_where_that_is_configured() -> None:
    assert usable().of(layout(NVIDIA, RAM)).kinds.keys() == {RAM}
    with pytest.raises(LmxdError, match="llama-server /x is built for the CPU alone") as caught:
        usable().of(layout(NVIDIA))
    assert caught.value.code == "engine_missing"
    assert "a build with CUDA or Vulkan" in caught.value.remedy
    assert "{device: host}" in caught.value.remedy


def test_one_warning_names_the_cards_the_build_and_the_remedy() -> None:
    (said,) = usable(Backend.CUDA, of=(NVIDIA, AMD)).warnings()
    assert "llama-server /x is a CUDA build" in said
    assert "GPU-a (Radeon RX 7900 XTX)" in said
    assert "GPU-n" not in said
    assert "for AMD a build with ROCm or Vulkan" in said
    assert not list(usable(Backend.VULKAN).warnings())


def test_of_several_engines_each_need_serve_the_cards_of_one_maker_only() -> None:
    cuda, rocm = usable(Backend.CUDA, of=(NVIDIA, AMD)), usable(Backend.ROCM, of=(NVIDIA, AMD))
    assert len(list(warnings([cuda]))) == 1
    assert list(warnings([cuda, rocm])) == []
    (said,) = warnings([usable(Backend.CUDA, of=(NVIDIA,)), usable(of=(NVIDIA,))])
    assert "built for the CPU alone, and no model of it can run on GPU-n" in said, "it serves none at all"
    both = [usable(backend) for backend in (Backend.CUDA, Backend.ROCM)]
    assert all(INTEL in said and AMD not in said for said in warnings(both)), "which nobody serves"


def test_what_a_named_engine_does_not_find_is_said_with_its_name() -> None:
    wrong = replace(
        usable(Backend.VULKAN, of=(AMD,)), key="engines.vulkan.path", unreached=("its Vulkan finds no device",)
    )
    assert list(warnings([wrong])) == ["engines.vulkan: its Vulkan finds no device"]
