"""The cache in blocks: as vLLM itself counts it for each recorded config.json, and there and back for any."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmxd.safetensors.documents import DirectoryError, Uncovered
from lmxd.safetensors.layers import KeptLayer, Sees, kept_layers
from lmxd.safetensors.model import model_of
from lmxd.safetensors.pool import NULL_BLOCKS, BlockPool, Blocks, pool_of
from lmxd.safetensors.serving import ServedLaunch, memory, pool_for, tokens_in
from lmxd.safetensors.settings import settings_of

RECORDED: Final = Path(__file__).parent / "vllm-0.32.0.jsonl.xz"
ENTRIES: Final[dict[str, dict[str, Any]]] = {
    entry["name"]: entry for entry in map(json.loads, lzma.decompress(RECORDED.read_bytes()).splitlines())
}
COUNTED: Final = [name for name, entry in ENTRIES.items() if "tokens" in entry["said"]]
NOT_COVERED: Final = {
    *("falcon_mamba", "mamba", "laguna", "minicpm3", "mellum", "hrm_text", "glm_ocr", "paddleocr_vl"),
}
"""Recorded models that have to be declared: with states alone, or with heads of their own kind."""


def launch_of(entry: dict[str, Any]) -> ServedLaunch:
    """The launch that was recorded."""
    settings, said = entry.get("settings", {}), entry["said"]
    return ServedLaunch(
        context=said["context"],
        batched=said["in_flight"],
        dtype=settings.get("dtype", "auto"),
        kv_dtype=settings.get("kv_cache_dtype", "auto"),
        block=min(said["block"], 128),  # it is longer beside states
        kernel=32,
        wide_states=True,
    )


@pytest.mark.parametrize("name", [name for name in COUNTED if name not in NOT_COVERED])
def test_it_is_as_vllm_counts(name: str) -> None:
    entry = ENTRIES[name]
    said, launch = entry["said"], launch_of(entry)
    model = model_of(entry["config"], ())
    assert tokens_in(model, launch, said["kv_bytes"]) == said["tokens"]
    pool = pool_for(model, launch)
    assert (pool.size, said["kv_bytes"] // pool.size) == (said["block_bytes"], said["blocks"])
    assert said["context"] <= model.context


@pytest.mark.parametrize("name", sorted(NOT_COVERED))
def test_what_no_formula_is_sure_of_is_said(name: str) -> None:
    with pytest.raises(Uncovered, match=r"not covered|layer_types"):
        kept_layers(settings_of(ENTRIES[name]["config"]))


@pytest.mark.parametrize("name", ["qwen2-mixed", "qwen3-mixed"])
def test_what_vllm_refuses_is_refused(name: str) -> None:
    assert "Sliding window for some but all layers" in ENTRIES[name]["said"]["refused"]
    with pytest.raises(DirectoryError, match="a window for some layers but not all"):
        kept_layers(settings_of(ENTRIES[name]["config"]))


def test_most_of_what_was_recorded_is_covered() -> None:
    assert len(COUNTED) - len(NOT_COVERED) > 8 * len(NOT_COVERED)


LAYERS = st.lists(
    st.builds(
        KeptLayer,
        heads=st.sampled_from([1, 2, 4, 8]),
        width=st.sampled_from([64, 128, 160, 256]),
        sees=st.just(Sees.EVERYTHING),
    )
    | st.builds(
        KeptLayer,
        heads=st.sampled_from([1, 2, 4]),
        width=st.sampled_from([64, 128]),
        sees=st.sampled_from([Sees.WINDOW, Sees.CHUNK]),
        reach=st.sampled_from([128, 512, 4096]),
    ),
    min_size=1,
    max_size=12,
)


@given(
    layers=LAYERS,
    block=st.sampled_from([16, 32, 128]),
    context=st.integers(1, 200_000),
    requests=st.integers(1, 64),
    more=st.integers(0, 1000),
    in_flight=st.integers(1, 16_384),
)
def test_there_and_back(
    layers: list[KeptLayer], block: int, context: int, requests: int, more: int, in_flight: int
) -> None:
    """The blocks for so many tokens hold them beside the null block, and one block fewer does not."""
    pool = pool_of(layers, Blocks(tokens=block))
    wanted = context * requests + more
    blocks = pool.blocks_for(wanted, context, in_flight)
    request = pool.blocks(context, in_flight)
    assert pool.tokens(blocks, context, in_flight) >= wanted
    assert blocks > request, "vLLM refuses a cache that holds no whole request beside the null block"
    usable = blocks - NULL_BLOCKS
    assert (usable - 1) * context < wanted * request <= usable * context or usable == request


@given(layers=LAYERS, ranks=st.sampled_from([1, 2, 4, 8]))
def test_more_gpus_have_no_more_each(layers: list[KeptLayer], ranks: int) -> None:
    whole, share = pool_of(layers, Blocks()), pool_of(layers, Blocks(ranks=ranks))
    assert whole.size >= share.size >= -(-whole.size // (ranks * len(layers)))


def test_an_encoder_keeps_nothing() -> None:
    model = model_of(
        {
            "architectures": ["BertModel"],
            "model_type": "bert",
            "num_hidden_layers": 12,
            "hidden_size": 768,
            "max_position_embeddings": 512,
        },
        (),
    )
    found = memory(model, ServedLaunch(context=512))
    assert (found.kv, found.shown) == (2**21, 0), "vLLM takes 0 for not said"
    assert pool_of((), Blocks()) == BlockPool(0, ())


LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": 4,
    "hidden_size": 512,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
    "max_position_embeddings": 4096,
}

STATES = {"model_type": "qwen3_next", "layer_types": ["linear_attention", "full_attention"] * 2}


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
        ({"num_hidden_layers": "4"}, "num_hidden_layers is '4'"),
        ({"num_attention_heads": True}, "num_attention_heads is True"),
        ({"layer_types": ["full_attention"]}, "not a list of 4 words"),
        ({"layer_types": ["linear_attention"] * 4}, "'linear_attention', which is not covered"),
        ({"model_type": "brand_new"}, "'brand_new' are not covered"),
        ({"model_type": None}, "model_type is None"),
        ({"architectures": []}, "architectures names none"),
        ({"is_encoder_decoder": True}, "an encoder and a decoder"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings is 'yes'"),
        ({"quantization_config": {"quant_method": "aqlm"}}, "quant_method is 'aqlm'"),
        ({"per_layer_config": {"9": {"head_dim": 64}}}, "per_layer_config has '9'"),
        ({"per_layer_config": {"9" * 5_000: {}}}, "which is no layer"),
        ({"per_layer_config": {"\u0663": {}}}, "which is no layer"),
        ({"num_attention_heads": 1_024}, "head_dim would be 0"),
        ({"architectures": ["\x1b[2J"]}, "'\\x1b[2J', which is no name"),
        ({"architectures": ["A" * 10_000]}, "which is no name"),
        ({**STATES, "mamba_ssm_dtype": ["float32"]}, "states in ['float32']"),
        ({"model_type": "lfm2", "layer_types": ["conv", "full_attention"] * 2, "conv_L_cache": 1}, "conv_L_cache is 1"),
    ],
)
def test_a_setting_that_cannot_be_is_named(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DirectoryError) as caught:
        model_of({**LLAMA, **changed}, ())
    assert sentence in str(caught.value)


def test_a_way_to_stretch_a_context_that_is_no_word_is_none() -> None:
    stretched = {"type": ["linear"], "factor": 2.0}
    assert model_of({**LLAMA, "rope_scaling": stretched}, ()).context == 2 * 4096


def test_layers_are_bounded_where_a_list_says_them() -> None:
    pattern = {"model_type": "nemotron_h", "hybrid_override_pattern": "*" * 2049}
    with pytest.raises(DirectoryError, match="2049 layers"):
        model_of({**LLAMA, **pattern}, ())


def test_no_figures_make_bytes_that_no_message_can_hold() -> None:
    huge = {"num_hidden_layers": 2048, "num_key_value_heads": 2**27, "num_attention_heads": 2**27, "head_dim": 2**27}
    with pytest.raises(DirectoryError, match="than any machine has"):
        memory(model_of({**LLAMA, **huge}, ()), ServedLaunch(context=4096))


def test_the_language_model_of_pictures_is_what_counts() -> None:
    """Also where the file says nothing but what differs from the defaults of its kind (Gemma 3 of 4B)."""
    inner = {"model_type": "gemma3_text", "hidden_size": 2560, "num_hidden_layers": 34, "sliding_window": 1024}
    model = model_of(
        {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "text_config": inner}, ()
    )
    assert [layer.reach for layer in model.kept] == [0 if (n + 1) % 6 == 0 else 1024 for n in range(34)]
    assert {(layer.heads, layer.width) for layer in model.kept} == {(4, 512)}


@pytest.mark.parametrize(
    ("launch", "sentence"),
    [
        (ServedLaunch(context=5000), "more than the 4096"),
        (ServedLaunch(context=4096, kv_tokens=1000), "hold no request of 4096"),
        (ServedLaunch(context=4096, ranks=3), "cannot be divided by 3 GPUs"),
        (ServedLaunch(context=4096, dtype="int4"), "--dtype 'int4'"),
        (ServedLaunch(context=4096, kv_dtype="nvfp4"), "--kv-cache-dtype nvfp4"),
        (ServedLaunch(context=4096, quantization="fp8"), "quantized while they are loaded"),
    ],
)
def test_a_launch_that_cannot_be_is_refused(launch: ServedLaunch, sentence: str) -> None:
    with pytest.raises(DirectoryError) as caught:
        memory(model_of(LLAMA, ()), launch)
    assert sentence in str(caught.value)
