"""The facts that memory depends on, from headers of many shapes."""

from __future__ import annotations

from typing import Any

import pytest
import synthetic
from synthetic import model

from lmxd.gguf.facts import Unsupported
from lmxd.gguf.header import HeaderError


def tiny(arch: str = "llama", layers: int = 4, **more: Any) -> tuple[dict[str, Any], list[synthetic.Shape]]:
    extra = more.pop("extra", {})
    return synthetic.decoder(
        arch, layers=layers, embedding=64, heads=4, kv_heads=more.pop("kv_heads", 2), feed_forward=128,
        vocabulary=100, head=32, extra=extra, **more,
    )  # fmt: skip


def test_what_a_dense_model_is() -> None:
    found = model(synthetic.llama_8b())
    assert (found.layers, found.embedding, found.vocabulary, found.context) == (32, 4096, 128256, 131072)
    assert (found.heads[0], found.kv_heads[0], found.key) == (32, 8, 128)
    assert not found.window
    assert not any(found.slides)


def test_heads_may_differ_by_layer() -> None:
    assert model(tiny("deci", kv_heads=[2, 1, 2, 1])).kv_heads == (2, 1, 2, 1)


def test_head_size_defaults_to_embedding_over_heads() -> None:
    metadata, tensors = tiny()
    del metadata["llama.attention.key_length"], metadata["llama.attention.value_length"]
    assert model((metadata, tensors)).key == 16


@pytest.mark.parametrize(
    ("arch", "slides"),
    [
        ("gemma2", "10101010"),
        ("gpt-oss", "10101010"),
        ("gemma3", "11111011"),
        ("cohere2", "11101110"),
        ("smallthinker", "01110111"),
    ],
)
def test_which_layers_slide(arch: str, slides: str) -> None:
    found = model(tiny(arch, layers=8, extra={"attention.sliding_window": 16}))
    assert "".join(str(int(s)) for s in found.slides) == slides


def test_a_key_overrides_the_pattern() -> None:
    window = {"attention.sliding_window": 16}
    by_period = model(tiny("gemma3", extra=window | {"attention.sliding_window_pattern": 2}))
    by_layer = model(tiny("gemma3", extra=window | {"attention.sliding_window_pattern": [True, True, False, True]}))
    assert by_period.slides == (True, False, True, False)
    assert by_layer.slides == (True, True, False, True)


def test_without_a_window_nothing_slides() -> None:
    assert not any(model(tiny("exaone4")).slides)


def test_llama4_slides_by_chunks() -> None:
    assert model(tiny("llama4")).window == 8192


def test_layers_for_speculation_are_not_loaded() -> None:
    found = model(tiny("glm4moe", extra={"nextn_predict_layers": 1}))
    assert found.layers == 3
    assert not any(t.name.startswith("blk.3.") for t in found.tensors)


def test_an_architecture_that_is_not_covered_is_refused_by_name() -> None:
    with pytest.raises(Unsupported, match=r"'qwen4exp'.*estimated_memory_gb"):
        model(tiny("qwen4exp"))


def test_a_state_needs_its_size() -> None:
    with pytest.raises(HeaderError, match=r"mamba\.ssm\.inner_size is missing"):
        model(tiny("mamba"))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("llama.block_count", None, "block_count is missing"),
        ("llama.block_count", 10**6, "block_count is 1000000"),
        ("llama.block_count", "four", "'four', not a number"),
        ("llama.attention.head_count_kv", [1, 2], "2 figures for 4 layers"),
        ("llama.attention.head_count_kv", [1, 2, 3, -5], "impossible"),
        ("llama.embedding_length", True, "not a number"),
        ("general.architecture", None, "general.architecture is missing"),
        ("general.architecture", 5, "general.architecture is missing"),
    ],
)
def test_impossible_figures_are_named(key: str, value: Any, message: str) -> None:
    metadata, tensors = tiny()
    if value is None:
        del metadata[key]
    else:
        metadata[key] = value
    with pytest.raises(HeaderError, match=message):
        model((metadata, tensors))
