"""CUDA's number of a card: that of the last look, and none where CUDA may count otherwise. Engines are told it."""

from __future__ import annotations

import pytest
from devices.fake_nvml import Card, FakeNvml

from lmxd.devices.nvml import NvmlProbe
from lmxd.engines.visibility import Gpu, by_cuda, natively
from lmxd.vendor import Vendor

GIB = 2**30


def cards(*places: int) -> list[Card]:
    return [Card(f"GPU-{place}", GIB, pci=f"00000000:{place:02X}:00.0") for place in places]


def numbers(probe: NvmlProbe) -> dict[str, int | None]:
    return {found.id: found.cuda for found in probe.measure(set())}


def test_cards_are_numbered_by_their_addresses_whichever_are_asked_for() -> None:
    nvml = FakeNvml(*cards(1, 0x41, 0xA1))
    assert numbers(NvmlProbe(nvml, None)) == {"GPU-1": 0, "GPU-65": 1, "GPU-161": 2}
    assert numbers(NvmlProbe(nvml, ("GPU-161",))) == {"GPU-161": 2}


def test_a_container_counts_what_it_sees() -> None:
    nvml = FakeNvml(*cards(0x41, 0xA1))
    assert numbers(NvmlProbe(nvml, ("GPU-161",))) == {"GPU-161": 1}


def test_a_card_that_came_or_went_moves_the_others() -> None:
    nvml, clock = FakeNvml(*cards(1, 2)), [0.0]
    probe = NvmlProbe(nvml, ("GPU-2",), lambda: clock[0])
    assert numbers(probe) == {"GPU-2": 1}
    del nvml.cards[0]
    clock[0] += 60
    assert numbers(probe) == {"GPU-2": 0}


@pytest.mark.parametrize("odd", ["fails", "divided", "unordered", "same place"])
def test_none_is_known_where_cuda_may_count_otherwise(odd: str) -> None:
    nvml = FakeNvml(*cards(1, 2))
    match odd:
        case "fails":
            nvml.cards[0].fault = 15
        case "divided":
            nvml.cards[0].slices = [Card("MIG-1", GIB // 2)]
        case "unordered":
            nvml.cards.reverse()
        case _:
            nvml.cards[0].pci = nvml.cards[1].pci
    assert set(numbers(NvmlProbe(nvml, None)).values()) == {None}


@pytest.mark.parametrize(
    ("gpus", "named"),
    [
        ([("GPU-a", 1)], "1"),
        ([("GPU-a", 3), ("GPU-b", 0)], "3,0"),
        ([("MIG-a", None)], "MIG-a"),
        ([("GPU-a", 0), ("GPU-b", None)], "GPU-a,GPU-b"),
    ],
)
def test_another_engine_is_told_the_numbers_or_else_the_ids(gpus: list[tuple[str, int | None]], named: str) -> None:
    shown = natively([Gpu(id=name, cuda=number) for name, number in gpus])
    assert shown is not None
    assert shown["CUDA_VISIBLE_DEVICES"] == named
    assert shown["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_llama_server_is_told_ids_and_amd_has_no_such_number() -> None:
    assert by_cuda([Gpu(id="GPU-a", cuda=1)])["CUDA_VISIBLE_DEVICES"] == "GPU-a"
    shown = natively([Gpu(id="GPU-1", vendor=Vendor.AMD, rocm=0)])
    assert shown is not None
    assert shown["ROCR_VISIBLE_DEVICES"] == "GPU-1"
    assert shown["CUDA_VISIBLE_DEVICES"] == ""
