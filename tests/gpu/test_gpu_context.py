"""The prior of a process's context against what a real card takes. By hand, where there is an NVIDIA GPU.

Run by hand: pytest tests/gpu/test_gpu_context.py -s. It works on any card, and prints the figures of this one.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from gpu.this_gpu import GPU, needs_gpu, nvml
from lmxd_process import Lmxd, ask

from lmxd import cuda
from lmxd.estimate.cards import card_of, multiprocessors_of
from lmxd.estimate.contexts import ADDED, PER_THREAD, prior
from lmxd.estimate.learned import Card
from lmxd.estimate.overhead import MIB

pytestmark = [needs_gpu, pytest.mark.timeout(300)]


def here() -> Card:
    """The card as NVML describes it."""
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(GPU)
    return card_of(nvml.nvmlDeviceGetName(GPU), cores=nvml.nvmlDeviceGetNumGpuCores(GPU), compute=(major, minor))


def of_process(pid: int | None) -> int:
    return sum(p.usedGpuMemory for p in nvml.nvmlDeviceGetComputeRunningProcesses(GPU) if p.pid == pid)


@contextmanager
def bare(stack: int) -> Iterator[int]:
    """The bytes that NVML says of a process with nothing but a context."""
    command = [sys.executable, str(Path(__file__).parent / "bare_context.py"), str(stack)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield of_process(process.pid)
        finally:
            process.kill()


def test_nvml_and_the_table_of_names_agree_about_the_multiprocessors() -> None:
    card = here()
    assert card.compute is not None
    assert cuda.is_known(card.compute), "else lmxd/cuda.py lacks a row"
    by_name = multiprocessors_of(card.name)
    print(card, by_name)
    assert by_name in (None, (card.multiprocessors, card.compute))


def test_a_bare_context_is_two_kib_for_each_resident_thread() -> None:
    card = here()
    assert card.compute is not None
    threads = cuda.resident_threads(card.multiprocessors, card.compute)
    with bare(0) as took:
        print(f"{card.name}: {took / MIB:.0f} MiB, by its threads {PER_THREAD * threads / MIB:.0f}")
        assert abs(took + ADDED - prior(card).size) <= max(prior(card).error, took // 20)


def test_more_stack_is_more_of_it_for_each_resident_thread() -> None:
    card = here()
    assert card.compute is not None
    threads = cuda.resident_threads(card.multiprocessors, card.compute)
    with bare(1024) as small:
        pass
    with bare(4096) as large:
        pass
    print(f"{(large - small) / MIB:.0f} MiB for 3 KiB of stack more, by its threads {3072 * threads / MIB:.0f}")
    assert large - small == pytest.approx(3072 * threads, rel=0.05)


@pytest.mark.skipif(shutil.which("llama-server") is None, reason="there is no llama-server on PATH")
def test_the_prior_is_what_a_real_instance_turns_out_to_take(tmp_path: Path, smollm2: Path) -> None:
    config = {"models": {"smollm2": {"path": str(smollm2), "context_length": 2048}}}
    with Lmxd(tmp_path, config) as running, running.client() as client:
        (before,) = client.estimate("smollm2").contexts
        with client.request("smollm2") as lease:
            ask(lease)
            running.until(lambda: bool(client.estimates().observed), 30)
        (learned,) = client.estimates().contexts
        print(f"{before['source']}: {before['bytes'] / MIB:.0f} MiB, {learned.source}: {learned.bytes / MIB:.0f}")
        assert before["source"] == prior(here()).source
        assert abs(learned.bytes - before["bytes"]) <= before["error"]
        assert learned.source == "learned from 1 launch"
