"""How a model is divided between a GPU and RAM: what goes first, what that frees, and what it costs in speed."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st

from lmxd.estimate.files import read_model
from lmxd.gguf.footprint import footprint
from lmxd.gguf.launch import Launch
from lmxd.gguf.model import Model
from lmxd.gguf.offload import divided, offloads
from lmxd.gguf.overrides import experts_in_ram
from lmxd.gguf.reads import reads

LAUNCH = Launch(context=4096)


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return read_model(synthetic.write(tmp_path_factory.mktemp("dense") / "m.gguf", *synthetic.llama_8b()))


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return read_model(synthetic.write(tmp_path_factory.mktemp("sparse") / "m.gguf", *synthetic.qwen3_30b_a3b()))


@pytest.fixture(scope="module")
def few(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model of five layers, with experts or without: the ways of each layer are alike, so more would show no more."""
    experts: tuple[int, int, int] | None = request.param
    parts = synthetic.decoder(
        "qwen3moe" if experts else "llama", layers=5, embedding=256, heads=4, kv_heads=2, feed_forward=512,
        vocabulary=1000, head=64, experts=experts,
    )  # fmt: skip
    return read_model(synthetic.write(tmp_path_factory.mktemp("few") / "m.gguf", *parts))


def shape(model: Model, launch: Launch = LAUNCH) -> list[tuple[int, int, int]]:
    """Layers on the GPU, those with experts in RAM, and whole ones, of the ways that end with a whole layer."""
    return list(dict.fromkeys((way.layers, way.experts, way.whole) for way in offloads(model, launch)))


def test_layers_leave_the_gpu_one_by_one_and_matrices_before_them(dense: Model) -> None:
    assert shape(dense)[:4] == [(33, 0, 33), (33, 0, 32), (32, 0, 32), (32, 0, 31)]
    assert shape(dense)[-1] == (1, 0, 1)
    first = [way.in_ram for way in offloads(dense, LAUNCH)[:6]]
    assert first[:2] == ["", r"blk\.(0)\.ffn_(down)\."]
    assert first[3:] == [r"blk\.(0)\.ffn_(down|gate|up)\.", "", r"blk\.(1)\.ffn_(down)\."]


def test_experts_leave_before_layers_do(sparse: Model) -> None:
    found = shape(sparse)
    assert found[:3] == [(49, 0, 49), (49, 1, 48), (49, 2, 47)]
    assert found[48:51] == [(49, 48, 1), (48, 48, 1), (47, 48, 1)]
    assert found[-1] == (1, 48, 1)
    second = offloads(sparse, LAUNCH)[4].in_ram
    assert second == r"blk\.(0)\.ffn_(down|gate|gate_up|up)_(ch|)exps|blk\.(1)\.ffn_(down)_(ch|)exps"


def test_it_begins_with_the_launch_as_it_is(dense: Model, sparse: Model) -> None:
    assert shape(dense, Launch(context=4096, gpu_layers=2)) == [(2, 0, 2), (2, 0, 1), (1, 0, 1)]
    assert shape(dense, Launch(context=4096, gpu_layers=99))[0] == (33, 0, 33)
    some = shape(sparse, Launch(context=4096, overrides=(experts_in_ram(40),)))
    assert some[:2] == [(49, 0, 9), (49, 1, 8)], "those of 40 layers are in RAM anyway"
    every = shape(sparse, Launch(context=4096, overrides=(experts_in_ram(None),)))
    assert every[:2] == [(49, 0, 1), (48, 0, 1)]
    upper = shape(sparse, Launch(context=4096, gpu_layers=3))
    assert upper[:3] == [(3, 0, 3), (3, 1, 2), (3, 2, 1)], "only layers on the GPU have experts there"


@pytest.mark.parametrize("few", [None, (8, 2, 128)], indirect=True, ids=["dense", "sparse"])
@given(context=st.integers(1, 2**15), slots=st.integers(1, 4), layers=st.none() | st.integers(1, 8))
def test_each_way_frees_bytes_and_none_is_faster(few: Model, context: int, slots: int, layers: int | None) -> None:
    launch = Launch(context=context, slots=slots, gpu_layers=layers)
    ways = [divided(launch, way.layers, way.in_ram) for way in offloads(few, launch)]
    weights = [footprint(few, way, 1).device.weights for way in ways]
    found = [reads(few, way) for way in ways]
    assert all(more > less for more, less in pairwise(weights))
    assert all(cheap.cost < dear.cost for cheap, dear in pairwise(found))
    assert len(set(map(sum, found))) == 1, "the same weights are read wherever they are"


def test_a_token_reads_the_experts_that_it_uses_and_no_embeddings(dense: Model, sparse: Model, tmp_path: Path) -> None:
    layers = sum(t.nbytes for t in dense.tensors if t.name.startswith(("blk.", "output")))
    assert reads(dense, LAUNCH) == (layers, 0)
    experts = sum(t.nbytes for t in sparse.tensors if "_exps" in t.name)
    others = sum(t.nbytes for t in sparse.tensors if "_exps" not in t.name and t.name != "token_embd.weight")
    assert reads(sparse, LAUNCH) == (others + experts * 8 // 128, 0)
    assert reads(sparse, divided(LAUNCH, 49, "_exps")) == (others, experts * 8 // 128)
    tied = read_model(synthetic.write(tmp_path / "tied.gguf", *synthetic.qwen3_4b()))
    assert (
        reads(tied, LAUNCH).on_gpu
        > reads(tied, divided(LAUNCH, 1, "")).on_gpu
        > tied.shapes["token_embd.weight"].nbytes
    )
