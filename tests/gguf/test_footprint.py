"""The closed form against what llama-server itself printed: bench/data holds it, for over 140 architectures.

2,667 loads by build 11434, on a CPU and beside pretended GPUs (real ones agree: test_h100.py).
"""

from __future__ import annotations

import contextlib
import functools
import io
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import synthetic
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import REPACKED, covered, loads, named, shape
from synthetic import model

from lmxd.estimate.arguments import parse
from lmxd.gguf.facts import Unsupported, model_of
from lmxd.gguf.footprint import Footprint, Impossible, footprint
from lmxd.gguf.header import Header, HeaderError, read_header
from lmxd.gguf.launch import Launch
from lmxd.gguf.overrides import Override

MIB = 2**20
CPU_SCANS = {"jamba@small", "plamo2@small"}
"""Their states are larger than CUDA's kernels take: there their weights move to the CPU (estimate/footprints.py)."""


@functools.cache
def header_of(name: str) -> Header:
    data, size = synthetic.header(*shape(name))
    return read_header(io.BytesIO(data), size)


def estimates(name: str) -> Iterator[tuple[str, Footprint, dict[str, float], int]]:
    """(flags, the closed form, what was printed, outputs) of every load of a model."""
    for load in loads()[name]:
        if name in CPU_SCANS and load["cards"]:
            continue
        arguments = parse(load["flags"], frozenset() if load["cards"] else REPACKED).resolved(named(name).context)
        found = footprint(named(name), arguments.launch, load["cards"])
        yield f"{load['flags']} on {load['cards']}", found, load["buffers"], arguments.launch.outputs


def test_most_architectures_are_covered() -> None:
    assert len({named(name).arch for name in covered()}) >= 100
    assert sum(len(loads()[name]) for name in covered()) >= 2200


@pytest.mark.parametrize("name", covered())
def test_weights_cache_and_state_are_what_is_printed(name: str) -> None:
    for flags, found, printed, _ in estimates(name):
        for number, device in enumerate(found.devices):
            for part, kind in (("weights", "model"), ("kv", "KV"), ("state", "RS")):
                said = printed.get(f"CUDA{number}.{kind}", 0.0)
                assert getattr(device, part) / MIB == pytest.approx(said, abs=0.04), (flags, part, number)
        host = printed.get("CPU_Mapped.model", 0.0) + printed.get("CPU_REPACK.model", 0.0)
        assert found.host.weights / MIB == pytest.approx(host, abs=0.04), flags
        assert found.host.kv / MIB == pytest.approx(printed.get("CPU.KV", 0.0), abs=0.04), flags
        assert found.host.state / MIB == pytest.approx(printed.get("CPU.RS", 0.0), abs=0.04), flags


LEFT_OUT = {
    "falcon-h1-7b": "-ub 2048",
    "olmo2-7b": "-ngl 5",
    "phi3-mini": "-ngl 5",
    "granitehybrid@small": "-ngl 5",
    "lfm2@small": "-ngl 5",
    "minicpm3@small": "-ngl",
    "gpt-oss-20b": "-ngl 5",
}
"""Where the closed form says itself that it is unsure, and is asked no more than a second opinion of."""


def compute_errors(name: str) -> Iterator[tuple[str, float, float]]:
    """(flags, MiB by which the closed form is above what was printed, MiB of everything there)."""
    for flags, found, printed, outputs in estimates(name):
        if name in LEFT_OUT and LEFT_OUT[name] in flags:
            continue
        for number, device in enumerate(found.devices):
            yield flags, device.compute / MIB - printed.get(f"CUDA{number}.compute", 0.0), device.total / MIB
        if not found.devices:
            buffers = found.host.compute - 4 * outputs * named(name).vocabulary
            yield flags, buffers / MIB - printed["CPU.compute"], found.host.total / MIB


@pytest.mark.parametrize("name", covered())
def test_compute_is_within_the_bound(name: str) -> None:
    for flags, error, total in compute_errors(name):
        assert abs(error) <= max(64.0, total / 100), flags


def test_compute_is_nearly_always_exact() -> None:
    errors = sorted(abs(error) for name in covered() for _, error, _ in compute_errors(name))
    assert errors[len(errors) // 2] < 0.1
    assert errors[len(errors) * 95 // 100] < 16


def test_the_worked_example() -> None:
    """Llama 3.1 8B, 8,192 tokens, f16: two of 32 layers' 8 heads of 128 floats of two bytes."""
    found = footprint(model(synthetic.llama_8b()), Launch(context=8192), 1).device
    assert found.kv == 1_073_741_824


@pytest.mark.parametrize(
    ("parts", "flags", "kv"),
    [
        (synthetic.llama_8b, "-c 8192 -np 1 -ctk q8_0 -ctv q8_0", 544),
        (synthetic.llama_8b, "-c 8192 -np 1 -ctk q4_0 -ctv q4_0", 288),
        (synthetic.gemma3_12b, "-c 32768 -np 1", 2528),
        (synthetic.gemma3_12b, "-c 32768", 3488),
        (synthetic.gemma3_12b, "-c 32768 -np 4", 3968),
        (synthetic.gemma3_12b, "-c 32768 -np 1 -ub 2048", 3008),
        (synthetic.gemma3_12b, "-c 32768 -np 1 --swa-full", 12288),
        (synthetic.qwen3_30b_a3b, "-c 32768 -np 1", 3072),
    ],
)
def test_kv_by_hand(parts: Any, flags: str, kv: int) -> None:
    launch = parse(flags).resolved(0).launch
    assert footprint(model(parts()), launch, 1).device.kv == kv * MIB


def test_layers_on_the_gpu_are_counted_from_the_output() -> None:
    """``-ngl N``: the output layer and the last N - 1; the cache goes with its layer."""
    eight = model(synthetic.llama_8b())
    one = footprint(eight, Launch(context=4096, gpu_layers=1), 1)
    assert one.device.kv == 0
    assert one.device.weights == pytest.approx(eight.shapes["output.weight"].nbytes, abs=64 * 1024)
    nine, whole = (footprint(eight, Launch(context=4096, gpu_layers=n), 1) for n in (10, None))
    assert nine.device.kv == whole.device.kv * 9 // 32
    assert nine.host.kv + nine.device.kv == whole.device.kv


def test_a_cache_may_stay_on_the_host() -> None:
    found = footprint(model(synthetic.llama_8b()), Launch(context=4096, cache_on_device=False), 1)
    assert (found.device.kv, found.host.kv) == (0, 512 * MIB)


def test_tensors_go_where_they_are_told_to() -> None:
    moe = model(synthetic.qwen3_30b_a3b())
    experts = sum(t.nbytes for t in moe.tensors if "_exps." in t.name)
    kept = footprint(moe, Launch(context=4096, overrides=(Override("_exps"),)), 1)
    whole = footprint(moe, Launch(context=4096), 1)
    assert whole.device.weights - kept.device.weights == pytest.approx(experts, abs=MIB)
    second = footprint(moe, Launch(context=4096, overrides=(Override("_exps", 1),), split=(1.0, 0.0)), 2)
    assert second.devices[1].weights >= experts


def test_op_offload_copies_can_be_turned_off() -> None:
    eight = model(synthetic.llama_8b())
    copied, not_copied = (
        footprint(eight, Launch(context=4096, gpu_layers=10, op_offload=on), 1) for on in (True, False)
    )
    assert copied.device.compute - not_copied.device.compute == copied.left > 30 * MIB


def test_tied_embeddings_are_on_both_sides() -> None:
    tied = model(synthetic.qwen3_4b())
    found = footprint(tied, Launch(context=4096), 1)
    assert found.host.weights == tied.shapes["token_embd.weight"].nbytes
    assert found.device.weights > sum(t.nbytes for t in tied.tensors if t.name != "token_embd.weight")


def test_a_quantized_cache_without_flash_attention_is_impossible() -> None:
    with pytest.raises(Impossible, match="q8_0"):
        footprint(model(synthetic.llama_8b()), Launch(context=4096, cache_type_v="q8_0", flash="off"), 1)


def test_a_head_size_without_kernel_turns_flash_attention_off() -> None:
    parts = synthetic.decoder(
        "llama", layers=2, embedding=512, heads=4, kv_heads=4, feed_forward=1024, vocabulary=1000, head=100, kind="f16"
    )
    odd, usual = (footprint(model(parts), Launch(context=4096, flash=flash), 1).device for flash in ("auto", "on"))
    assert odd.compute - usual.compute > 4 * 4 * 4096 * 512 / 2, "the scores of all heads"


def test_embedding_servers_compute_all_outputs() -> None:
    found = footprint(model(synthetic.llama_8b("q8_0")), Launch(context=8192, outputs_all=True), 1).device.compute
    assert found / MIB == pytest.approx(290.52, abs=0.2)


@given(
    context=st.integers(1, 2**17),
    slots=st.integers(1, 8),
    ubatch=st.integers(1, 4096),
    layers=st.integers(0, 40),
    cards=st.integers(0, 3),
    name=st.sampled_from(["llama31-8b-q4_0", "gemma3-12b-q4_0", "gpt-oss-20b", "mamba-1.4b-q8_0", "lfm2-1.2b"]),
)
def test_more_of_anything_never_takes_less(
    context: int, slots: int, ubatch: int, layers: int, cards: int, name: str
) -> None:
    def total(launch: Launch) -> int:
        found = footprint(named(name), launch, cards)
        return sum(part.total for part in (*found.devices, found.host))

    launch = Launch(context=context, slots=slots, ubatch=ubatch, gpu_layers=layers)
    base = total(launch)
    assert base > 0
    assert total(replace(launch, context=context + 256)) >= base
    assert total(replace(launch, slots=slots + 1)) >= base
    assert total(replace(launch, ubatch=ubatch + 64)) >= base


@given(data=st.data())
@settings(max_examples=examples(150))
def test_impossible_facts_end_in_an_error_or_in_figures(data: st.DataObject) -> None:
    """Any architecture, any of its keys replaced by anything: an error that names it, or bytes; never a crash."""
    name = data.draw(st.sampled_from(sorted(loads())))
    found = header_of(name)
    metadata = dict(found.metadata)
    strange: st.SearchStrategy[int | float | str] = st.sampled_from([0, 1, 2, 3, 7, -1, 2**31, 2**40, True, "x", 0.5])
    for key in data.draw(st.lists(st.sampled_from(sorted(metadata)), max_size=4)):
        metadata[key] = data.draw(strange)
    for key in data.draw(st.lists(st.sampled_from(sorted(metadata)), max_size=2)):
        metadata.pop(key, None)
    flags = data.draw(
        st.sampled_from(["-c 4096", "-c 100 -np 5 -fa off -ngl 3", "-c 8192 -ctk q8_0 -ctv q8_0 -ncmoe 2"])
    )
    with contextlib.suppress(HeaderError, Unsupported, Impossible):
        known = model_of(Header(metadata=metadata, tensors=found.tensors, size=found.size))
        total = footprint(known, parse(flags).resolved(known.context).launch, data.draw(st.integers(0, 3)))
        assert all(part.total >= 0 for part in (*total.devices, total.host))


def test_a_model_that_keeps_k_and_v_in_one_takes_one_type() -> None:
    """llama-server ends with "model does not support different K (q8_0) and V (f16) cache types"."""
    with pytest.raises(Impossible, match="give them one type"):
        footprint(named("deepseek2@small"), Launch(context=8192, cache_type_k="q8_0"), 0)


def test_a_rotation_is_as_wide_as_a_power_of_two_of_the_head() -> None:
    """A head of 576 is turned by matrices of 64: build 11434 printed 58.01 MiB with a q8_0 cache and without."""
    for kind in ("f16", "q8_0"):
        launch = Launch(context=8192, cache_type_k=kind, cache_type_v=kind)
        buffer = footprint(named("kimi-k3@small"), launch, 0).host.compute - 4 * named("kimi-k3@small").vocabulary
        assert buffer / MIB == pytest.approx(58.01, abs=0.05)


def test_an_indexer_caches_a_key_of_its_own() -> None:
    """Printed: 36 MiB for the cells, and 8 for the keys that find them."""
    found = footprint(named("deepseek32@sparse"), Launch(context=4096), 0).host
    assert found.kv / MIB == pytest.approx(36 + 8, abs=0.01)
    every_second = footprint(named("hy_v4@small"), Launch(context=4096), 0).host
    assert every_second.kv / MIB == pytest.approx(36 + 4, abs=0.01)


def test_the_layer_that_routes_has_a_cache() -> None:
    """graniteswitch: 32 MiB for its layers, one for the single head that chooses an adapter."""
    assert footprint(named("graniteswitch@small"), Launch(context=4096), 0).host.kv / MIB == pytest.approx(33, abs=0.01)


def test_an_indexer_of_blocks_has_values_too_and_scores_for_one_slot_alone() -> None:
    """minimax-m3, as printed: seven layers of keys and values; slots that share a cache attend to all of it."""
    blocks = named("minimax-m3@small")
    alone, shared = (Launch(context=8192, slots=slots, unified=slots > 1) for slots in (1, 4))
    assert footprint(blocks, Launch(context=4096), 0).host.kv / MIB == pytest.approx(32 + 7, abs=0.01)
    buffers = [
        footprint(blocks, launch, 0).host.compute / MIB - 4 * launch.slots * blocks.vocabulary / MIB
        for launch in (alone, shared)
    ]
    assert buffers == pytest.approx([162.7, 34.5], abs=2)


def test_experts_are_copied_one_matrix_at_a_time_however_all_layers_are_asked_for() -> None:
    """Printed for gpt-oss-20b with -ncmoe 3: 22 MiB less than its largest moment and a matrix."""
    known, rules = named("gpt-oss-20b"), (Override(r"blk\.(0|1|2)\.ffn_(up|down|gate|gate_up)_(ch|)exps"),)
    launch = Launch(context=8192, overrides=rules)
    printed = next(load for load in loads()["gpt-oss-20b"] if "-ncmoe 3" in load["flags"])["buffers"]["CUDA0.compute"]
    for layers in (None, 25, 999):
        found = footprint(known, replace(launch, gpu_layers=layers), 1).device.compute
        assert found / MIB == pytest.approx(printed, abs=0.1)


def test_threads_may_ask_at_the_same_time() -> None:
    """As the daemon reads files: more launches than are remembered, beside one that is asked for all the time."""
    parts = synthetic.decoder(
        "llama", layers=1, embedding=64, heads=1, kv_heads=1, feed_forward=64, vocabulary=64, head=64
    )
    small, usual = model(parts), sys.getswitchinterval()
    ended = threading.Event()

    def ask_again() -> int:
        found = {footprint(small, Launch(context=1), 0)}
        while not ended.is_set():
            found.add(footprint(small, Launch(context=1), 0))
        return len(found)

    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(ask_again)
            try:
                for context in range(2, 12_000):
                    footprint(small, Launch(context=context), 0)
            finally:
                ended.set()
            assert asking.result() == 1
    finally:
        sys.setswitchinterval(usual)


def test_rows_of_several_tokens_are_each_slots_own() -> None:
    """deepseek4, as printed: windows of four slots, and their rows, though the slots share the context."""
    compressed = named("deepseek4@small")
    shared = footprint(compressed, Launch(context=8192, slots=4, unified=True), 0).host
    assert (shared.kv / MIB, shared.state / MIB) == pytest.approx((31.5, 3.57), abs=0.02)
    with pytest.raises(Impossible, match="one type"):
        footprint(compressed, Launch(context=8192, cache_type_v="q8_0"), 0)


def test_an_encoder_decoder_takes_one_slot() -> None:
    """llama-server of build 11434 ends itself: GGML_ASSERT(ggml_can_repeat(b, a))."""
    with pytest.raises(Impossible, match="give it one slot"):
        footprint(named("t5@small"), Launch(context=2048, slots=4), 0)
    assert footprint(named("t5@small"), Launch(context=2048, slots=4, unified=True), 0).host.kv == 64 * MIB
