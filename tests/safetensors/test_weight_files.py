"""The files of weights that are loaded, and what their tensors take in memory."""

from __future__ import annotations

import io
import json
import lzma
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from hf_directory import LLAMA, Tensors, llama_tensors, safetensors
from hypothesis import given
from hypothesis import strategies as st

from lmxd.safetensors.documents import DirectoryError, Uncovered
from lmxd.safetensors.files import named_files, weight_files
from lmxd.safetensors.header import StoredTensor, read_header
from lmxd.safetensors.model import model_of
from lmxd.safetensors.serving import ServedLaunch, memory
from lmxd.safetensors.types import computed, kept, method_of
from lmxd.safetensors.weights import LoadedAs, loaded

SHARDS: Final = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX: Final = "model.safetensors.index.json"


def chosen(*names: str, **documents: Any) -> tuple[str, ...]:
    return weight_files(names, lambda name: named_files(dict(documents[name.partition(".")[0]]), name))


def test_all_are_taken_where_no_index_says_otherwise() -> None:
    assert chosen("config.json", *SHARDS, "README.md", ".hidden.safetensors") == SHARDS


def test_those_that_the_index_names_are_taken() -> None:
    names = {"weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}
    assert chosen("config.json", *SHARDS, "extra.safetensors", INDEX, model=names) == SHARDS


def test_of_mistrals_two_copies_its_own_is_taken() -> None:
    """As vLLM does: by --load-format auto."""
    both = ("config.json", "params.json", "consolidated.safetensors", *SHARDS, INDEX)
    assert chosen(*both, model={"weight_map": {"a": SHARDS[0]}}) == ("consolidated.safetensors",)


@pytest.mark.parametrize(
    ("names", "documents", "sentence"),
    [
        (("model.safetensors",), {}, "no config.json (name a directory"),
        (("adapter_config.json", "adapter_model.safetensors"), {}, "an adapter (LoRA)"),
        (("params.json", "consolidated.safetensors"), {}, "Mistral's params.json"),
        (("model_index.json",), {}, "a pipeline of diffusers"),
        (("config.json",), {}, "no files of weights"),
        (("config.json", "pytorch_model.bin"), {}, "weights in .bin and none in .safetensors"),
        (("config.json", SHARDS[0], INDEX), {"model": {"weight_map": dict(enumerate(SHARDS))}}, "is not there"),
        (("config.json", SHARDS[0], INDEX), {"model": {}}, "no weight_map"),
        (("config.json", SHARDS[0], INDEX), {"model": {"weight_map": {"a": 3}}}, "no weight_map"),
        (("config.json", SHARDS[0], INDEX), {"model": {"weight_map": {"a": "../../etc/passwd"}}}, "is not there"),
        (("config.json", *(f"{n}.safetensors" for n in range(2000))), {}, "more than 1024"),
    ],
)
def test_a_directory_that_is_none_says_what_to_do(
    names: tuple[str, ...], documents: Mapping[str, Any], sentence: str
) -> None:
    with pytest.raises(DirectoryError) as caught:
        chosen(*names, **documents)
    assert sentence in str(caught.value)


def stored(tensors: Tensors) -> tuple[StoredTensor, ...]:
    data = safetensors(tensors, seed=None)
    return read_header(io.BytesIO(data), len(data), "m")


RECORDED: Final[dict[str, Any]] = {
    entry["name"]: entry
    for entry in map(
        json.loads, lzma.decompress((Path(__file__).parent / "vllm-0.32.0.jsonl.xz").read_bytes()).splitlines()
    )
}


@pytest.mark.parametrize("name", [name for name in RECORDED if name == "llama" or name.startswith("llama-")])
def test_a_llama_takes_what_vllm_allocates(name: str) -> None:
    """Tied or not, with a vocabulary of 1,003 that is padded, computed in bfloat16 though it is stored in float32."""
    entry = RECORDED[name]
    config = {"head_dim": 32, "tie_word_embeddings": False} | {
        key: value for key, value in entry["config"].items() if value is not None
    }
    for kind in ("BF16", "F32"):
        model = model_of(entry["config"], stored(llama_tensors(config, kind)))
        assert memory(model, ServedLaunch(context=1)).weights == entry["said"]["weights"]


RANKS: Final[list[dict[str, Any]]] = [
    json.loads(line)
    for line in lzma.decompress((Path(__file__).parent / "vllm-0.32.0-ranks.jsonl.xz").read_bytes()).splitlines()
]
"""Models that vLLM built on one rank and on two: the tensors of the one, bytes of weights and of a token on each."""


@pytest.mark.parametrize("entry", RANKS, ids=lambda entry: str(entry["name"]))
def test_shares_are_those_of_vllms_ranks(entry: dict[str, Any]) -> None:
    """To the byte, but for what gpt-oss has beside its matrices."""
    tensors = {name: (kind, tuple(shape)) for name, (kind, shape) in entry["tensors"].items()}
    model = model_of(entry["config"], stored(tensors))
    for ranks, weights, row in zip((1, 2), entry["weights"], entry["rows"], strict=True):
        launch = ServedLaunch(context=1024, ranks=ranks)
        assert memory(model, launch).weights == pytest.approx(
            weights, abs=weights // 2000 * ("gpt_oss" in entry["name"])
        )
        assert sum(layer.elements(ranks) * 2 for layer in model.kept) == row


def test_float32_stays_where_it_is_asked_for() -> None:
    model = model_of(LLAMA, stored(llama_tensors()))
    half, whole = (memory(model, ServedLaunch(context=1, dtype=dtype)).weights for dtype in ("auto", "float32"))
    assert (half, whole) == (model.stored, 2 * model.stored)


AS: Final = LoadedAs(element=2, layers=2, heads=4, kv_heads=2, tied=False)


@pytest.mark.parametrize(
    ("name", "kind", "shape", "taken"),
    [
        ("model.layers.0.mlp.up_proj.weight", "F8_E4M3", (64, 64), 64 * 64),
        ("model.layers.0.mlp.up_proj.weight_scale_inv", "F32", (8, 8), 4 * 64),
        ("model.layers.0.mlp.up_proj.qweight", "I32", (8, 64), 4 * 8 * 64),
        ("model.layers.0.mlp.up_proj.scales", "F32", (8, 8), 4 * 64),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", "F32", (16,), 0),
        ("model.layers.2.mlp.up_proj.weight", "BF16", (64, 64), 0),  # it only drafts
        ("mtp.layers.0.mlp.up_proj.weight", "BF16", (64, 64), 0),
        ("transformer.h.0.attn.bias", "U8", (1, 1, 64, 64), 0),  # gpt2's masks
        ("transformer.h.0.attn.c_attn.bias", "BF16", (64,), 128),
        ("visual.layers.7.mlp.up_proj.weight", "BF16", (64, 64), 2 * 64 * 64),
        (f"model.layers.{'9' * 5_000}.weight", "BF16", (64, 64), 2 * 64 * 64),
    ],
)
def test_what_becomes_of_a_tensor(name: str, kind: str, shape: tuple[int, ...], taken: int) -> None:
    assert loaded(stored({name: (kind, shape)}), AS) == taken


def test_one_table_for_both_ends_that_the_config_does_not_tie_is_there_twice() -> None:
    table = stored({"model.embed_tokens.weight": ("BF16", (128, 32))})
    assert loaded(table, AS) == 2 * 2 * 128 * 32


@given(ranks=st.sampled_from([2, 4, 8]), layers=st.integers(1, 4))
def test_shares_are_equal_and_together_no_less_than_the_whole(ranks: int, layers: int) -> None:
    config = {**LLAMA, "num_hidden_layers": layers}
    tensors = stored(llama_tensors(config))
    how = LoadedAs(element=2, layers=layers, heads=4, kv_heads=2, tied=False)
    share = loaded(tensors, LoadedAs(element=2, layers=layers, heads=4, kv_heads=2, tied=False, ranks=ranks))
    whole = loaded(tensors, how)
    norms = 2 * LLAMA["hidden_size"] * (2 * layers + 1)
    copies = 2 * 2 * layers * 64 * 128 * max(0, ranks - 2)  # of the heads of keys, which are two
    assert whole <= share * ranks <= whole + (ranks - 1) * norms + copies + ranks


@pytest.mark.parametrize(
    ("quantization", "size"),
    [
        ({}, 2),
        ({"quant_method": "gptq"}, 2),
        ({"quant_method": "compressed-tensors", "kv_cache_scheme": {"num_bits": 8, "type": "float"}}, 1),
        ({"quant_method": "modelopt", "kv_cache_quant_algo": "FP8"}, 1),
        ({"quant_method": "modelopt", "quantization": {"kv_cache_quant_algo": "FP8"}}, 1),
    ],
)
def test_a_checkpoint_may_say_the_type_of_its_cache(quantization: dict[str, Any], size: int) -> None:
    config = {"quantization_config": quantization}
    assert kept("auto", config, 2) == size
    assert kept("bfloat16", config, 2) == 2, "a flag wins"


def test_what_is_not_known_is_not_guessed() -> None:
    scheme = {"quantization_config": {"quant_method": "modelopt", "kv_cache_quant_algo": "NVFP4"}}
    with pytest.raises(Uncovered, match="quantized as 'NVFP4'"):
        kept("auto", scheme, 2)
    with pytest.raises(Uncovered, match="int3"):
        kept("int3", {}, 2)
    with pytest.raises(Uncovered, match="float8"):
        computed("float8")
    assert method_of({"text_config": {"compression_config": {"quant_method": "compressed_tensors"}}}) != ""
