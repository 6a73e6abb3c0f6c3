"""The closed form against what llama-server itself printed: on an H100, on a CPU, and in llama.cpp's own dry run."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st

from lmxd.estimate.footprints import estimate
from lmxd.gguf.footprint import Impossible, Launch, footprint
from lmxd.gguf.header import read_header
from lmxd.gguf.model import Model, model_of

MIB = 2**20
DATA = Path(__file__).parent.parent / "data"
SHAPES = {
    "llama31-8b-q4_0": synthetic.llama_8b,
    "gemma3-12b-q4_0": synthetic.gemma3_12b,
    "qwen3-4b-q4_0": synthetic.qwen3_4b,
}


def model(parts: tuple[dict[str, Any], list[synthetic.Shape]]) -> Model:
    data, size = synthetic.header(*parts)
    return model_of(read_header(io.BytesIO(data), size))


MODELS = {name: model(make()) for name, make in SHAPES.items()}


def launch(flags: str) -> Launch:
    """llama-server's own words."""
    words = flags.split()

    def get(flag: str, default: str) -> str:
        return words[words.index(flag) + 1] if flag in words else default

    slots = int(get("-np", "1"))
    return Launch(
        context=int(get("-c", "0")) // slots,
        slots=slots,
        ubatch=int(get("-ub", "512")),
        batch=int(get("-b", "2048")),
        cache_type_k=get("-ctk", "f16"),
        cache_type_v=get("-ctv", "f16"),
        flash=get("-fa", "auto"),
    )


H100 = [
    r for line in (DATA / "h100_measured.jsonl").read_text().splitlines() if (r := json.loads(line))["model"] in SHAPES
]


@pytest.mark.parametrize("measured", H100, ids=lambda r: f"{r['model']} {r['flags']}")
def test_buffers_on_an_h100(measured: dict[str, Any]) -> None:
    """Weights and KV to the printed MiB; compute exact but for the safe bound of models with normed queries."""
    found = footprint(MODELS[measured["model"]], launch(measured["flags"]), on_gpu=True)
    buffers = measured["buffers"]
    assert found.device.weights / MIB == pytest.approx(buffers["CUDA0.model"], abs=0.01)
    assert found.host.weights / MIB == pytest.approx(buffers["CPU_Mapped.model"], abs=0.01)
    if measured["model"] != "gemma3-12b-q4_0":  # of its two KV lines the file holds only the last
        assert found.device.kv / MIB == pytest.approx(buffers["CUDA0.KV"], abs=0.01)
    above = found.device.compute / MIB - buffers["CUDA0.compute"]
    assert -0.01 <= above <= (8.1 if "-fa off" in measured["flags"] else 0.2)


@pytest.mark.parametrize("measured", H100, ids=lambda r: f"{r['model']} {r['flags']}")
def test_the_total_on_an_h100_is_never_under_and_close(measured: dict[str, Any]) -> None:
    """What the device had less after a first long prompt: 0 to 64 MiB below the estimate."""
    found = estimate(MODELS[measured["model"]], launch(measured["flags"]), on_gpu=True)
    assert 0 <= (found.device - measured["prompted"]) / MIB <= 64


@pytest.mark.parametrize(
    ("shape", "flags", "kv"),
    [
        (synthetic.llama_8b, "-c 8192 -np 1", 1024),
        (synthetic.llama_8b, "-c 8192 -np 1 -ctk q8_0 -ctv q8_0", 544),
        (synthetic.llama_8b, "-c 8192 -np 1 -ctk q4_0 -ctv q4_0", 288),
        (synthetic.gemma3_12b, "-c 32768 -np 1", 2528),
        (synthetic.gemma3_12b, "-c 131072 -np 4", 4 * 2528),
        (synthetic.gemma3_12b, "-c 32768 -np 4", 3968),
        (synthetic.gemma3_12b, "-c 32768 -np 1 -ub 2048", 3008),
        (synthetic.qwen3_30b_a3b, "-c 32768 -np 1", 3072),
    ],
)
def test_kv_by_hand(shape: Any, flags: str, kv: int) -> None:
    assert footprint(model(shape()), launch(flags), on_gpu=True).device.kv == kv * MIB


@pytest.mark.parametrize(
    ("shape", "flags", "compute"),
    [
        ("q8_0", "-c 8192 -np 1", 124.01),
        ("q8_0", "-c 131072 -np 1", 244.01),
        ("q8_0", "-c 8192 -np 1 -ub 2048", 496.05),
        ("q8_0", "-c 8192 -np 4", 118.01),
        ("q8_0", "-c 131072 -np 1 -ctk q8_0 -ctv q8_0", 680.09),
        ("q8_0", "-c 8192 -np 1 -fa off", 572.01),
    ],
)
def test_compute_as_in_llama_cpps_dry_run(shape: str, flags: str, compute: float) -> None:
    found = footprint(model(synthetic.llama_8b(shape)), launch(flags), on_gpu=True).device.compute
    assert found / MIB == pytest.approx(compute, abs=0.2)


def test_experts_in_the_dry_run() -> None:
    found = footprint(model(synthetic.qwen3_30b_a3b()), launch("-c 8192 -np 1"), on_gpu=True).device.compute
    assert found / MIB == pytest.approx(92.01, abs=0.2)


CPU = [
    r
    for r in csv.DictReader((DATA / "cpu_buffers.csv").open())
    if r["model_file"].startswith("SmolLM2") and "-np" in r["setting"] and "-kvu" not in r["setting"]
]


@pytest.mark.parametrize("measured", CPU, ids=lambda r: r["setting"])
def test_buffers_on_a_cpu(measured: dict[str, str], smollm2: Path) -> None:
    with smollm2.open("rb") as file:
        found = model_of(read_header(file, smollm2.stat().st_size))
    parts = footprint(found, launch(measured["setting"]), on_gpu=False).host
    slots = launch(measured["setting"]).slots
    assert parts.weights / MIB == pytest.approx(float(measured["model"].split("=")[1]), abs=0.01)
    assert parts.kv / MIB == pytest.approx(float(measured["KV"].split("=")[1]), abs=0.01)
    compute = parts.compute - 4 * slots * found.vocabulary
    assert compute / MIB == pytest.approx(float(measured["compute_exact"].split("=")[1]), abs=0.06)


def test_layers_on_the_gpu_are_counted_from_the_output() -> None:
    """``-ngl N``: the output layer and the last N - 1; the cache goes with its layer."""
    shape = MODELS["llama31-8b-q4_0"]
    output = next(t for t in shape.tensors if t.name == "output.weight")
    one = footprint(shape, Launch(context=4096, gpu_layers=1), on_gpu=True)
    assert one.device.kv == 0
    assert one.device.weights == pytest.approx(output.nbytes, abs=64 * 1024)
    nine = footprint(shape, Launch(context=4096, gpu_layers=10), on_gpu=True)
    whole = footprint(shape, Launch(context=4096), on_gpu=True)
    assert nine.device.kv == whole.device.kv * 9 // 32
    assert nine.host.kv + nine.device.kv == whole.device.kv


def test_tied_embeddings_are_on_both_sides() -> None:
    parts = synthetic.qwen3_4b()
    tied = footprint(model(parts), Launch(context=4096), on_gpu=True)
    embeddings = next(t for t in model(parts).tensors if t.name == "token_embd.weight")
    assert tied.host.weights == embeddings.nbytes
    assert tied.device.weights > sum(t.nbytes for t in model(parts).tensors if t.name != "token_embd.weight")


def test_a_quantized_cache_without_flash_attention_is_impossible() -> None:
    with pytest.raises(Impossible, match="q8_0"):
        footprint(MODELS["llama31-8b-q4_0"], Launch(context=4096, cache_type_v="q8_0", flash="off"), on_gpu=True)


def test_a_head_size_without_kernel_turns_flash_attention_off() -> None:
    parts = synthetic.decoder(
        "llama",
        layers=2,
        embedding=512,
        heads=4,
        kv_heads=4,
        feed_forward=1024,
        vocabulary=1000,
        head=100,
        kind="f16",
    )
    with pytest.raises(Impossible):
        footprint(model(parts), Launch(context=4096, cache_type_v="q8_0"), on_gpu=True)


def test_embedding_servers_compute_all_outputs() -> None:
    shape = model(synthetic.llama_8b("q8_0"))
    found = footprint(shape, Launch(context=8192, outputs_all=True), on_gpu=True).device.compute
    assert found / MIB == pytest.approx(290.52, abs=0.2)


@given(
    context=st.integers(1, 2**17),
    slots=st.integers(1, 8),
    ubatch=st.integers(1, 4096),
    layers=st.integers(0, 40),
    shape=st.sampled_from(sorted(MODELS)),
)
def test_more_of_anything_never_takes_less(context: int, slots: int, ubatch: int, layers: int, shape: str) -> None:
    def total(launch: Launch) -> int:
        found = estimate(MODELS[shape], launch, on_gpu=True)
        return found.device + found.host

    base = Launch(context=context, slots=slots, ubatch=ubatch, gpu_layers=layers)
    assert total(base) > 0
    assert total(Launch(context=context + 256, slots=slots, ubatch=ubatch, gpu_layers=layers)) >= total(base)
    assert total(Launch(context=context, slots=slots + 1, ubatch=ubatch, gpu_layers=layers)) >= total(base)
    assert total(Launch(context=context, slots=slots, ubatch=ubatch + 64, gpu_layers=layers)) >= total(base)
