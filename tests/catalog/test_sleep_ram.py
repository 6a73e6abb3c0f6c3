"""The RAM that a model's weights take while it sleeps, as its request asks for it."""

from __future__ import annotations

from math import prod
from pathlib import Path

import pytest
from hf_directory import LLAMA, hf_directory, llama_tensors

from lmxd.catalog.catalog import Catalog
from lmxd.catalog.layout import Layout
from lmxd.config.file import parse
from lmxd.core.words import Ask, DeviceId
from lmxd.devices.measurement import DeviceKind

CARD, RAM, POOL = DeviceId("GPU-a"), DeviceId("host"), DeviceId("memory")
BESIDE = Layout({CARD: DeviceKind.GPU, RAM: DeviceKind.HOST})
WEIGHTS = 2 * sum(prod(shape) for _, shape in llama_tensors().values())
"""Bytes of them all, in BF16."""


def ask(directory: Path, more: str = "sleep: true", layout: Layout = BESIDE) -> Ask:
    path = hf_directory(directory / "v", LLAMA, llama_tensors())
    profile = f"{{engine: vllm, path: {path}, {more}}}"
    return Catalog(parse(f"models: {{v: {profile}}}", "test")).resolve("v").ask(layout)


@pytest.mark.parametrize("declared", ["", ", estimated_memory_gb: 9"])
def test_it_is_its_weights(tmp_path: Path, declared: str) -> None:
    assert ask(tmp_path, f"sleep: true{declared}").sleeps == {RAM: WEIGHTS}


def test_one_that_is_not_to_sleep_takes_none(tmp_path: Path) -> None:
    assert ask(tmp_path, "sleep: false").sleeps == {}


def test_where_ram_is_no_device_it_does_not_sleep(tmp_path: Path) -> None:
    assert ask(tmp_path, layout=Layout({CARD: DeviceKind.GPU})).sleeps == {}


def test_one_that_may_not_have_so_much_ram_does_not_sleep(tmp_path: Path) -> None:
    assert ask(tmp_path, f"sleep: true, memory_max_gb: {WEIGHTS / 2**30 + 1:.6f}").sleeps == {RAM: WEIGHTS}
    assert ask(tmp_path, "sleep: true, memory_max_gb: 0.0001").sleeps == {}


def test_ram_of_a_pool_is_the_pools_too(tmp_path: Path) -> None:
    kinds = {CARD: DeviceKind.GPU, RAM: DeviceKind.HOST, POOL: DeviceKind.POOL}
    assert ask(tmp_path, layout=Layout(kinds, {RAM: POOL})).sleeps == {RAM: WEIGHTS, POOL: WEIGHTS}


def test_a_model_that_sleeps_has_ram_counted(tmp_path: Path) -> None:
    for sleeps in (True, False):
        config = parse(f"models: {{v: {{engine: vllm, path: /v, sleep: {str(sleeps).lower()}}}}}", "test")
        assert config.uses_ram is sleeps
