"""Profiles turned into asks: the user's word, the formula, and what goes beyond."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import synthetic
from house import model

from lmxd.catalog.catalog import Catalog
from lmxd.catalog.gpu_support import GpuSupport
from lmxd.catalog.layout import Layout
from lmxd.catalog.options import Room
from lmxd.catalog.size import Size
from lmxd.config.file import parse
from lmxd.core.words import DeviceId
from lmxd.devices.measurement import DeviceKind
from lmxd.engines.visibility import Gpu
from lmxd.errors import LmxdError
from lmxd.estimate.backends import Backend
from lmxd.estimate.cards import card_of
from lmxd.vendor import Vendor

GIB = 2**30
CARD = DeviceId("GPU-a")
GPU = Layout({CARD: DeviceKind.GPU})


def catalog(tmp_path: Path, profile: str = "{}") -> Catalog:
    model(tmp_path, "m")
    return Catalog(parse(f"model_dir: {tmp_path}\nmodels: {{m: {profile}}}", "test"))


def bytes_of(made: Catalog, **size: Any) -> int:
    (option,) = made.resolve("m", Size(**size)).ask(GPU).options
    return option.demand[CARD]


def test_the_users_word_counts_for_the_profile_as_it_stands(tmp_path: Path) -> None:
    assert bytes_of(catalog(tmp_path, "{estimated_memory_gb: 2}")) == 2 * GIB


def test_what_is_asked_beyond_the_profile_is_added_to_the_word(tmp_path: Path) -> None:
    formula, word = catalog(tmp_path), catalog(tmp_path, "{estimated_memory_gb: 2}")
    more = bytes_of(formula, ctx=32768) - bytes_of(formula)
    assert more > 0
    assert bytes_of(word, ctx=32768) == 2 * GIB + more
    assert bytes_of(word, slots=4) > 2 * GIB
    assert bytes_of(word, ctx=256) == 2 * GIB, "less than the profile is not taken off a word"


def test_a_model_known_by_word_alone_is_not_stretched(tmp_path: Path) -> None:
    made = catalog(tmp_path, "{estimated_memory_gb: 2}")
    (tmp_path / "m.gguf").write_bytes(b"another kind of file")
    assert bytes_of(made) == 2 * GIB
    with pytest.raises(LmxdError, match="known by its estimated_memory_gb alone"):
        made.resolve("m", Size(ctx=8192)).ask(GPU)


def test_a_context_beyond_the_trained_one_needs_scaling(tmp_path: Path) -> None:
    with pytest.raises(LmxdError, match="trained for 32768"):
        catalog(tmp_path).resolve("m", Size(ctx=32769)).ask(GPU)
    stretched = catalog(tmp_path, "{engine_flags: [--rope-scaling, yarn, --yarn-orig-ctx, 32768]}")
    assert stretched.resolve("m", Size(ctx=65536)).ask(GPU).context == 65536


def test_a_low_figure_is_warned_of_with_both_numbers(tmp_path: Path) -> None:
    (warning,) = catalog(tmp_path, "{estimated_memory_gb: 0.1}").warnings([CARD])
    assert "models.m.estimated_memory_gb is 0.1, but the estimator finds 0.70" in warning
    assert catalog(tmp_path, "{estimated_memory_gb: 4}").warnings([CARD]) == []
    assert catalog(tmp_path, "{estimated_memory_gb: 0.70}").warnings([CARD]) == [], "as the estimate is said"
    assert catalog(tmp_path, "{estimated_memory_gb: 0.69}").warnings([CARD]) != []


def test_a_figure_is_low_for_the_cards_that_there_are_not_for_one_of_a_data_centre(tmp_path: Path) -> None:
    made, other = catalog(tmp_path, "{estimated_memory_gb: 0.3}"), DeviceId("GPU-b")
    made.default.cards = {CARD: card_of("NVIDIA GeForce RTX 3060"), other: card_of("NVIDIA H100 80GB HBM3")}
    assert made.warnings([CARD]) == []
    assert len(made.warnings([CARD, other])) == 1
    assert made.warnings([]) == [], "in RAM there is no context"


def test_a_context_of_0_is_the_trained_one_as_to_llama_server(tmp_path: Path) -> None:
    made = catalog(tmp_path, "{context_length: 0}")
    assert made.resolve("m").launch.context == 32768
    assert made.resolve("m", Size(ctx=512)).launch.context == 512
    assert catalog(tmp_path).resolve("m").launch.context == 4096


def test_a_missing_file_is_a_matter_of_whoever_needs_it(tmp_path: Path) -> None:
    made = Catalog(parse(f"model_dir: {tmp_path}\nmodels: {{m: {{path: gone.gguf}}}}", "test"))
    found = made.resolve("m")
    assert found.launch.context == 4096
    assert found.is_warm()
    with pytest.raises(LmxdError, match=r"gone\.gguf"):
        found.ask(GPU)
    with pytest.raises(LmxdError, match="there is no model 'n'"):
        made.resolve("n")


def test_another_engine_is_sized_by_its_users_word_and_by_what_it_was_seen_to_take(tmp_path: Path) -> None:
    made = catalog(tmp_path, "{command: [/x/vllm, '{socket}'], estimated_memory_gb: 2}")
    found = made.resolve("m")
    assert (made.file("m"), found.is_warm(), found.sizing.warnings(found.launch, [CARD])) == (None, True, [])
    assert bytes_of(made) == bytes_of(made, ctx=32768) == 2 * GIB
    ask = found.ask(GPU)
    assert made.what_would_fit(ask, {CARD: GIB}, GPU) is None, "a smaller context takes no less"
    with pytest.raises(LmxdError, match="m is not run by llama-server"):
        made.resolve("m", Size(min_gpu_layers=1)).ask(GPU)
    two = Layout({CARD: DeviceKind.GPU, DeviceId("GPU-b"): DeviceKind.GPU})
    assert len(found.ask(two, Room(free={}, ceiling=dict.fromkeys(two.kinds, GIB))).options) == 2, "it is not divided"
    made.peaks = {ask.variant: 3 * GIB}
    assert bytes_of(made) == 3 * GIB
    made.peaks = {ask.variant: GIB}
    assert bytes_of(made) == 2 * GIB


def test_what_would_fit_is_the_largest_context_for_which_there_is_room(tmp_path: Path) -> None:
    made = catalog(tmp_path)
    ask, room = made.resolve("m", Size(ctx=32768)).ask(GPU), bytes_of(made, ctx=8192)
    fits = made.what_would_fit(ask, {CARD: room}, GPU)
    assert fits is not None
    assert 8192 <= fits < 32768
    assert bytes_of(made, ctx=fits) <= room
    assert made.what_would_fit(ask, {CARD: 0}, GPU) is None


def test_a_context_that_is_not_said_is_no_more_than_the_model_was_trained_for(tmp_path: Path) -> None:
    made = catalog(tmp_path)
    assert made.resolve("m").launch.context == 4096
    metadata, tensors = synthetic.decoder(
        "llama", layers=2, embedding=64, heads=4, kv_heads=2, feed_forward=128, vocabulary=100, head=32, context=2048
    )
    synthetic.write(tmp_path / "m.gguf", metadata, tensors)
    assert made.resolve("m").launch.context == 2048
    assert made.resolve("m").ask(GPU).context == 2048


def test_two_engines_place_models_on_the_cards_of_their_makers(tmp_path: Path) -> None:
    model(tmp_path, "m")
    text = "engines: {cuda: , rocm: }\nmodels: {m: {engine: cuda}, n: {engine: rocm, path: m.gguf}}"
    made = Catalog(parse(f"model_dir: {tmp_path}\n{text}", "test"))
    nvidia, amd = DeviceId("GPU-n"), DeviceId("GPU-a")
    gpus = {nvidia: Gpu(id=nvidia), amd: Gpu(id=amd, vendor=Vendor.AMD)}
    for name, backend in (("cuda", Backend.CUDA), ("rocm", Backend.ROCM)):
        made.engines[name].usable = GpuSupport(backends=frozenset({backend}), gpus=gpus)
    both = Layout({nvidia: DeviceKind.GPU, amd: DeviceKind.GPU})
    asks = {name: made.resolve(name).ask(both) for name in "mn"}
    assert {name: [set(o.devices) for o in ask.options] for name, ask in asks.items()} == {
        "m": [{nvidia}],
        "n": [{amd}],
    }
    assert asks["m"].variant != asks["n"].variant
    assert made.warnings_of_engines() == []
