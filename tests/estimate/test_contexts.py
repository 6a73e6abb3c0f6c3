"""The bytes that a process takes of a card besides its buffers, against every figure that is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import synthetic

from lmxd import cuda
from lmxd.estimate.backends import Backend, for_vendor
from lmxd.estimate.cards import card_of, memory_of, multiprocessors_of
from lmxd.estimate.contexts import ADDED, PER_THREAD, UNKNOWN, UNKNOWN_ERROR, context, prior
from lmxd.estimate.footprints import estimate
from lmxd.estimate.learned import NOTHING_LEARNED, Card, Learned, Observation
from lmxd.estimate.overhead import MIB
from lmxd.gguf.launch import Launch
from lmxd.gguf.model import Model
from lmxd.vendor import Vendor

BARE = {
    "NVIDIA GeForce RTX 3090": (10496, (8, 6), 256),
    "NVIDIA GeForce RTX 4060 Ti": (4352, (8, 9), 107),
    "NVIDIA GeForce RTX 4090": (16384, (8, 9), 384),
    "NVIDIA RTX 6000 Ada Generation": (18176, (8, 9), 426),
    "NVIDIA H100 80GB HBM3": (16896, (9, 0), 518),
    "NVIDIA H200": (16896, (9, 0), 520),
    "NVIDIA B200": (18944, (10, 0), 612),
    "NVIDIA GeForce RTX 5090": (21760, (12, 0), 506),
    "NVIDIA RTX PRO 6000 Blackwell Workstation Edition": (24064, (12, 0), 555),
}
"""Name -> (CUDA cores as NVML counts them, compute capability, MiB of a bare context as it was reported)."""
H100_BY_STACK = {512: 386, 1024: 518, 2048: 782, 4096: 1310}
"""Bytes of stack for each thread -> MiB of a bare context on an H100."""


def eight() -> Model:
    return synthetic.model(synthetic.llama_8b())


def error(name: str) -> float:
    """The share by which 2 KiB for each thread are above the figure that was reported."""
    cores, compute, reported = BARE[name]
    threads = cuda.resident_threads(cuda.multiprocessors(cores, compute), compute)
    return PER_THREAD * threads / MIB / reported - 1


@pytest.mark.parametrize(
    ("name", "percent"),
    [
        ("NVIDIA GeForce RTX 3090", -3.9),
        ("NVIDIA GeForce RTX 4060 Ti", -4.7),
        ("NVIDIA GeForce RTX 4090", 0.0),
        ("NVIDIA RTX 6000 Ada Generation", 0.0),
        ("NVIDIA H100 80GB HBM3", 1.9),
        ("NVIDIA H200", 1.5),
        ("NVIDIA B200", -3.3),
        ("NVIDIA GeForce RTX 5090", 0.8),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 1.6),
    ],
)
def test_two_kib_for_each_resident_thread_is_within_five_percent(name: str, percent: float) -> None:
    assert 100 * error(name) == pytest.approx(percent, abs=0.06)
    assert abs(error(name)) < 0.05


def test_on_an_h100_a_context_is_a_stack_for_each_thread_and_254_mib() -> None:
    """Of which llama-server uses CUDA's default, 1,024 bytes."""
    threads = cuda.resident_threads(132, (9, 0))
    for stack, took in H100_BY_STACK.items():
        assert threads * stack / MIB + 254 == pytest.approx(took, abs=1)


@pytest.mark.parametrize("name", [name for name in BARE if "H100" not in name])
def test_the_prior_is_the_bare_context_and_what_llama_server_adds(name: str) -> None:
    """On the H100 59 to 66 MiB more than 2 KiB for each thread; the error bar holds both ends on every other card."""
    cores, compute, reported = BARE[name]
    found = prior(card_of(name, cores=cores, compute=compute))
    assert found.error == 48 * MIB
    for added in (59, 66):
        assert abs((reported + added) * MIB - found.size) <= found.error
    assert found.source == f"prior of compute {compute[0]}.{compute[1]}, {cores // 128} SMs"


def test_the_h100_is_as_it_was_measured() -> None:
    """587 to 594 MiB in 133 launches (bench/data/h100.jsonl)."""
    for card in (card_of("NVIDIA H100 80GB HBM3", cores=16896, compute=(9, 0)), Card(name="NVIDIA H100 80GB HBM3")):
        found = prior(card)
        assert (found.size, found.error) == (596 * MIB, 8 * MIB)


def test_an_rtx_4090_is_as_llama_cpp_itself_reported() -> None:
    """451 to 456 MiB beside its buffers, as it ended (pull request 15860 of llama.cpp): 67 to 72 beside a bare one."""
    found = prior(card_of("NVIDIA GeForce RTX 4090", cores=16384, compute=(8, 9)))
    assert 451 * MIB <= found.size <= 456 * MIB


@pytest.mark.parametrize(
    ("compute", "error"), [((7, 5), 96), ((8, 0), 96), ((12, 1), 96), ((8, 6), 48), ((12, 0), 48), ((13, 0), 480)]
)
def test_the_error_bar_is_narrow_where_a_figure_confirms_the_architecture(compute: cuda.Capability, error: int) -> None:
    found = prior(card_of("NVIDIA Something", cores=40 * 128, compute=compute))
    assert found.error == error * MIB
    assert found.size > ADDED


def test_a_card_of_twelve_gib_loses_no_half_gib_for_each_instance() -> None:
    """It was charged 596 MiB, with an error of 480, and now 206."""
    card = card_of("NVIDIA GeForce RTX 4070", cores=5888, compute=(8, 9))
    found = estimate(eight(), Launch(context=4096), (card,))
    unheard = estimate(eight(), Launch(context=4096), (Card(name="NVIDIA Something"),))
    assert unheard.device - found.device == 390 * MIB
    assert unheard.error - found.error == 432 * MIB
    assert found.notes == ()


def test_a_card_that_nothing_is_known_of_says_so() -> None:
    found = prior(card_of("NVIDIA Something"))
    assert (found.size, found.error) == (UNKNOWN, UNKNOWN_ERROR)
    assert "nothing is known of this card" in found.source


@pytest.mark.parametrize(
    ("name", "sms", "gib"),
    [
        ("RTX 4090", 128, 23.5),
        ("NVIDIA GeForce RTX 4090", 128, 23.5),
        ("NVIDIA GeForce RTX 4090 D", 114, 23.5),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 76, 15.5),
        ("NVIDIA GeForce RTX 4060 Ti", 34, 7.5),
        ("NVIDIA GeForce RTX 4070 SUPER", 56, 11.5),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", 66, 15.5),
        ("NVIDIA H100 PCIe", 114, 79.5),
        ("NVIDIA A100-SXM4-80GB", 108, 79.5),
        ("NVIDIA L4", 58, 23.5),
        ("NVIDIA L40S", 142, 47.5),
        ("NVIDIA RTX 6000 Ada Generation", 142, 47.5),
        ("Quadro RTX 6000", 72, 23.5),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", 16, 5),
        ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", 47, 20),
        ("NVIDIA A30 MIG 1g.6gb", 14, 6),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition MIG 2g.48gb", 94, 48),
        ("NVIDIA GH200 480GB", 132, 95.5),
        ("NVIDIA GH200 144G HBM3e", 132, 143.5),
        ("NVIDIA GB10", 48, 118.5),
        ("NVIDIA A800-SXM4-80GB", 108, 79.5),
        ("NVIDIA GeForce RTX 3080 12GB", 70, 11.5),
    ],
)
def test_a_card_that_is_not_here_is_known_by_its_name(name: str, sms: int, gib: float) -> None:
    known = multiprocessors_of(name)
    assert known is not None
    assert known[0] == sms
    assert memory_of(name) == gib * 2**30
    assert prior(card_of(name)).size == PER_THREAD * cuda.resident_threads(*known) + ADDED


@pytest.mark.parametrize("name", ["NVIDIA GeForce MX450", "NVIDIA GeForce RTX 3050 Laptop GPU", "Voodoo 5"])
def test_a_name_that_is_not_known_is_not_taken_for_a_namesake(name: str) -> None:
    assert multiprocessors_of(name) is None
    assert memory_of(name) is None


def test_a_slice_has_the_multiprocessors_that_nvml_says_and_no_more_than_its_share() -> None:
    """NVML may count the cores of the whole GPU for a slice."""
    name = "NVIDIA A100-SXM4-40GB MIG 1g.5gb"
    assert card_of(name, cores=14 * 64, compute=(8, 0)).multiprocessors == 14
    assert card_of(name, cores=6912, compute=(8, 0)).multiprocessors == 16
    assert prior(card_of(name, cores=14 * 64, compute=(8, 0))).size == 124 * MIB
    assert prior(card_of("NVIDIA A100-SXM4-40GB", cores=6912, compute=(8, 0))).size == 500 * MIB


def test_where_nvml_does_not_count_the_cores_the_name_tells_all() -> None:
    assert multiprocessors_of("NVIDIA GeForce RTX 4070") == (46, (8, 9))
    for cores, compute in ((0, None), (0, (9, 0)), (5888, None)):
        card = card_of("NVIDIA GeForce RTX 4070", cores=cores, compute=compute)
        assert (card.multiprocessors, card.compute) == (46, (8, 9))


@pytest.mark.parametrize(
    ("vendor", "built", "backend"),
    [
        (Vendor.NVIDIA, None, Backend.CUDA),
        (Vendor.NVIDIA, [Backend.VULKAN], Backend.VULKAN),
        (Vendor.NVIDIA, [Backend.VULKAN, Backend.CUDA], Backend.CUDA),
        (Vendor.AMD, None, Backend.ROCM),
        (Vendor.AMD, [Backend.VULKAN], Backend.VULKAN),
        (Vendor.AMD, [Backend.CUDA], None),
        (Vendor.INTEL, None, Backend.SYCL),
        (Vendor.INTEL, [Backend.CUDA, Backend.VULKAN], Backend.VULKAN),
        (None, None, Backend.CUDA),
    ],
)
def test_the_backend_is_the_one_that_is_built_for_the_vendor(
    vendor: Vendor | None, built: list[Backend] | None, backend: Backend | None
) -> None:
    assert for_vendor(built, vendor) == backend


def test_rocm_takes_what_was_seen_of_it_and_others_a_guess_that_says_so() -> None:
    rocm = prior(card_of("AMD Radeon RX 7900 XTX", vendor=Vendor.AMD))
    for seen in (253 * MIB, 313 * MIB, 0.4 * 2**30):
        assert rocm.size - rocm.error <= seen <= rocm.size + MIB, "the most that was seen, and the bar has the others"
    assert "RX 7900 XTX" in rocm.source
    for backend in (Backend.VULKAN, Backend.SYCL):
        found = prior(Card(name="a card", backend=backend))
        assert found.error == found.size, "it may take nothing, or twice that"
        assert "guess" in found.source


def test_a_card_of_amd_that_is_not_here_has_rocms() -> None:
    assert card_of("RX 7900 XTX").backend is Backend.ROCM
    assert memory_of("AMD Radeon RX 7900 XTX") == 23.5 * 2**30
    assert card_of("Intel Arc B580").backend is Backend.SYCL


@pytest.mark.parametrize("backend", [Backend.ROCM, Backend.VULKAN, Backend.SYCL])
def test_the_buffers_of_other_backends_are_less_sure_and_said_to_be(backend: Backend) -> None:
    """A second opinion would not settle it: the dry run pretends to be CUDA."""
    cuda_card = Card(name="a card")
    theirs = estimate(eight(), Launch(context=4096), (replace(cuda_card, backend=backend),))
    ours = estimate(eight(), Launch(context=4096), (cuda_card,))
    beside = theirs.error - theirs.contexts[0].error
    assert beside >= ours.error - ours.contexts[0].error + 96 * MIB
    assert theirs.uncertain == ours.uncertain
    assert any(backend in note for note in theirs.notes)


@pytest.mark.parametrize("backend", list(Backend))
def test_a_learned_figure_wins_over_every_prior(backend: Backend) -> None:
    card = Card(name="NVIDIA GeForce RTX 4090", driver="580", build="11434", backend=backend)
    before = context(card, NOTHING_LEARNED)
    seen = Observation(
        card=card,
        launch="x",
        file="f",
        model="m",
        buffers=5000 * MIB,
        predicted=5020 * MIB,
        loaded=5333 * MIB,
        prompted=0,
        count=3,
    )
    found = context(card, Learned((seen,)))
    assert (found.size, found.error) == (333 * MIB, 8 * MIB)
    assert found.source == "learned from 3 launches"
    assert before.size != found.size
