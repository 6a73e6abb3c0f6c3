"""Profiles that vLLM runs: their bytes by the formula, of a size that is asked for, on one GPU, on several, in RAM."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hf_directory import LLAMA, hf_directory, llama_tensors

from lmxd.catalog.catalog import Catalog
from lmxd.catalog.gpu_support import GpuSupport
from lmxd.catalog.layout import RAM_ID, Layout
from lmxd.catalog.options import Room
from lmxd.catalog.resolved import Resolved
from lmxd.catalog.size import Size
from lmxd.config.file import parse
from lmxd.core.words import DeviceId, Option
from lmxd.devices.measurement import DeviceKind
from lmxd.engines.visibility import Gpu
from lmxd.errors import LmxdError
from lmxd.estimate.directories import read_directory
from lmxd.vendor import Vendor

GIB = 2**30
ROW = 512
"""Bytes of a token in the cache of the small Llama: 2 layers of 2 heads of 2 x 32 elements."""
CARDS = [DeviceId(f"GPU-{letter}") for letter in "abcd"]
IN_RAM = Layout({RAM_ID: DeviceKind.HOST})


def gpus(count: int) -> Layout:
    return Layout(dict.fromkeys(CARDS[:count], DeviceKind.GPU))


def resolved(tmp_path: Path, size: Size = Size(), changed: dict[str, Any] | None = None, **profile: Any) -> Resolved:
    hf_directory(tmp_path / "m", {**LLAMA, **(changed or {})}, llama_tensors())
    said = json.dumps({"engine": "vllm", "path": str(tmp_path / "m"), **profile})
    made = Catalog(parse(f"model_dir: {tmp_path}\nmodels: {{m: {said}}}", "test"))
    cards = {gpu: Gpu(id=gpu, vendor=Vendor.NVIDIA) for gpu in CARDS}
    made.see([], dict.fromkeys(made.engines, GpuSupport(gpus=cards)))
    return made.resolve("m", size)


def options(it: Resolved, layout: Layout, room: Room | None = None) -> tuple[Option, ...]:
    return it.ask(layout, room or Room(free={}, ceiling={})).options


def kv(it: Resolved, count: int = 1) -> int:
    return it.sizing.kv_bytes(it.launch, CARDS[:count])


def test_a_context_that_is_asked_for_counts(tmp_path: Path) -> None:
    usual, larger = (resolved(tmp_path, Size(ctx=ctx)) for ctx in (None, 16_384))
    (one,), (other,) = (options(it, gpus(1)) for it in (usual, larger))
    assert other.demand[CARDS[0]] - one.demand[CARDS[0]] == kv(larger) - kv(usual) == (16_384 - 4096) * ROW


def test_the_cache_is_for_the_context_of_each_slot_and_the_null_block(tmp_path: Path) -> None:
    assert kv(resolved(tmp_path, context_length=2048, slots=3)) == (3 * 2048 + 16) * ROW
    assert kv(resolved(tmp_path, context_length=2048, slots=3), 0) == (3 * 2048 + 128) * ROW, "blocks are longer in RAM"
    assert kv(resolved(tmp_path, context_length=2048, slots=3, engine_flags=["--block-size", "64"])) == 6208 * ROW


def test_kv_tokens_are_for_all_requests_together(tmp_path: Path) -> None:
    assert kv(resolved(tmp_path, context_length=2048, slots=8, kv_tokens=4096)) == (4096 + 16) * ROW
    asked = resolved(tmp_path, Size(ctx=8192), context_length=2048, slots=8, kv_tokens=4096)
    assert kv(asked) == (8192 + 16) * ROW, "one request of what is asked for has to fit"


def test_flags_that_decide_about_bytes_count(tmp_path: Path) -> None:
    plain = resolved(tmp_path)
    small = resolved(tmp_path, engine_flags=["--kv-cache-dtype", "fp8"])
    assert kv(small) * 2 == kv(plain)
    wide = resolved(tmp_path, engine_flags=["--dtype=float32"])
    assert kv(wide) == 2 * kv(plain)
    weights = [it.sizing.estimate(it.launch, CARDS[:1]).parts.devices[0].weights for it in (plain, wide)]
    assert weights[1] == 2 * weights[0]


def test_a_batch_is_said_so_that_it_does_not_follow_from_the_card(tmp_path: Path) -> None:
    assert resolved(tmp_path).words == ("--max-num-batched-tokens", "2048")
    assert resolved(tmp_path, slots=4).words == ("--max-num-batched-tokens", "2048")
    own = resolved(tmp_path, engine_flags=["--max-num-batched-tokens", "512"])
    assert own.words == ("--max-num-batched-tokens", "512")


def test_what_is_not_taken_in_chunks_fits_in_a_batch(tmp_path: Path) -> None:
    """vLLM refuses it else; and so it does a picture that is more than a batch."""
    encoder = {"model_type": "xlm-roberta", "architectures": ["XLMRobertaModel"], "max_position_embeddings": 8194}
    assert resolved(tmp_path, changed=encoder).words == ("--max-num-batched-tokens", "8194")
    own = ["--no-enable-chunked-prefill"]
    assert resolved(tmp_path, context_length=6000, engine_flags=own).words[-1] == "6000"
    asked = resolved(tmp_path, Size(ctx=9000), context_length=6000, engine_flags=own)
    assert asked.words[-1] == "9000", "also what a request asks for"
    usual = resolved(tmp_path, Size(ctx=9000), context_length=6000)
    assert options(asked, gpus(1))[0].demand[CARDS[0]] > options(usual, gpus(1))[0].demand[CARDS[0]]
    assert resolved(tmp_path, changed={"vision_config": {}}).words[-1] == "8192"


def test_a_batch_that_is_too_small_to_start_with_is_refused(tmp_path: Path) -> None:
    own = ["--max-num-batched-tokens", "128"]
    assert options(resolved(tmp_path, slots=128, engine_flags=own), gpus(1))
    for size, flags, slots in (
        (Size(slots=129), own, 128),
        (Size(), own, 200),
        (Size(ctx=129), [*own, "--no-enable-chunked-prefill"], 1),
    ):
        with pytest.raises(LmxdError, match="--max-num-batched-tokens is 128, but") as caught:
            options(resolved(tmp_path, size, slots=slots, engine_flags=flags), gpus(1))
        assert caught.value.code == "invalid_params"


def test_shares_are_on_the_gpus_with_the_most_room(tmp_path: Path) -> None:
    it = resolved(tmp_path, gpus=2)
    free = dict(zip(CARDS, (1, 4, 3, 2), strict=True))
    ceiling = dict(zip(CARDS, (9, 4, 3, 8), strict=True))
    now, ever = options(it, gpus(4), Room(free=free, ceiling=ceiling))
    assert tuple(now.devices) == (CARDS[1], CARDS[2])
    assert tuple(ever.devices) == (CARDS[0], CARDS[3])
    assert len(set(now.demand.values())) == 1
    assert kv(it, 2) == kv(resolved(tmp_path)) // 2


def test_too_few_gpus_for_the_shares_are_said(tmp_path: Path) -> None:
    with pytest.raises(LmxdError, match=r"gpus is 3, but there are 2 of one kind") as caught:
        options(resolved(tmp_path, gpus=3), gpus(2))
    assert caught.value.remedy == "lower gpus"


def test_without_gpus_there_are_no_shares(tmp_path: Path) -> None:
    it = resolved(tmp_path, gpus=2)
    with pytest.raises(LmxdError, match=r"gpus is 2, but there is none that it can use") as caught:
        options(it, IN_RAM)
    assert (caught.value.code, caught.value.remedy) == ("invalid_params", "lower gpus")
    assert it.sizing.warnings(it.launch, ()) == ["models.m.gpus is 2, but there are 0 (lower gpus)"]


def test_in_ram_one_process_has_it_all(tmp_path: Path) -> None:
    it = resolved(tmp_path)
    (option,) = options(it, IN_RAM)
    assert option.demand[RAM_ID] == it.sizing.estimate(it.launch, ()).host


def test_the_plan_has_the_bytes_of_the_cache(tmp_path: Path) -> None:
    it = resolved(tmp_path, context_length=2048)
    promised = it.sizing.estimate(it.launch, CARDS[:1]).parts.devices[0]
    assert it.sizing.kv_bytes(it.launch, CARDS[:1]) == promised.kv
    assert promised.total > promised.kv + promised.weights


def test_what_would_fit_is_a_smaller_context(tmp_path: Path) -> None:
    it = resolved(tmp_path, Size(ctx=32_768))
    need = options(it, gpus(1))[0].demand[CARDS[0]]
    found = it.what_would_fit({CARDS[0]: need - 8_000 * ROW}, gpus(1), 0)
    assert found is not None
    assert 32_768 - 8_000 - 512 < found < 32_768 - 8_000 + 256
    assert it.what_would_fit({CARDS[0]: 1}, gpus(1), 0) is None


def test_a_declared_size_is_of_each_gpu(tmp_path: Path) -> None:
    it = resolved(tmp_path, gpus=2, estimated_memory_gb=3)
    (option,) = options(it, gpus(2))
    assert set(option.demand.values()) == {3 * GIB}
    more = resolved(tmp_path, Size(ctx=16_384), estimated_memory_gb=3)
    assert options(more, gpus(1))[0].demand[CARDS[0]] == 3 * GIB + (16_384 - 4096) * ROW


def test_a_model_that_no_formula_covers_is_declared(tmp_path: Path) -> None:
    hybrid = {"model_type": "mamba2"}
    with pytest.raises(LmxdError, match="set estimated_memory_gb"):
        options(resolved(tmp_path, changed=hybrid), gpus(1))
    it = resolved(tmp_path, changed=hybrid, estimated_memory_gb=6)
    stored = (tmp_path / "m/model.safetensors").stat().st_size
    assert options(it, gpus(1))[0].demand[CARDS[0]] == 6 * GIB
    assert kv(it) == 4 * GIB - stored, "the rest is for what vLLM itself needs"
    assert it.sizing.warnings(it.launch, CARDS[:1]) == []
    for declared in (1, 2):
        with pytest.raises(LmxdError, match=f"estimated_memory_gb is {declared}, but .* needs are 2.01") as caught:
            options(resolved(tmp_path, changed=hybrid, estimated_memory_gb=declared), gpus(1))
        assert caught.value.code == "invalid_params", "which a start would say only then"


def test_warnings_tell_of_what_cannot_be(tmp_path: Path) -> None:
    low = resolved(tmp_path, estimated_memory_gb=0.2)
    assert "estimated_memory_gb is 0.2, but the estimator finds" in low.sizing.warnings(low.launch, CARDS[:1])[0]
    gone = resolved(tmp_path)
    (tmp_path / "m/model.safetensors").unlink()
    (sentence,) = gone.sizing.warnings(gone.launch, ())
    assert sentence.startswith("models.m: ")
    assert "no files of weights" in sentence


def test_a_context_beyond_what_the_model_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LmxdError, match="more than the 32768") as caught:
        options(resolved(tmp_path, Size(ctx=40_000)), gpus(1))
    assert caught.value.code == "invalid_params"
    assert resolved(tmp_path, context_length=0).launch.context == 32_768


def test_to_resolve_it_takes_no_header(tmp_path: Path) -> None:
    """To read those of 163 files takes a second. What is wrong with them is told when its bytes are asked for."""
    (weights,) = (file.name for file in hf_directory(tmp_path / "m", LLAMA, llama_tensors()).glob("*.safetensors"))
    said = json.dumps({"engine": "vllm", "path": str(tmp_path / "m"), "context_length": 0})
    (tmp_path / "m" / weights).write_bytes(b"no header")
    made = Catalog(parse(f"model_dir: {tmp_path}\nmodels: {{m: {said}}}", "test"))
    it = made.resolve("m")
    assert it.launch.context == 32_768
    assert not it.is_warm()
    it.read()
    assert it.is_warm(), "why it cannot be used is remembered, too"
    with pytest.raises(LmxdError, match=r"model\.safetensors"):
        options(it, gpus(1))


def test_it_is_warm_when_its_tensors_are_added_up(tmp_path: Path) -> None:
    """For the largest models that takes a second, which is no time to hold up everybody."""
    it = resolved(tmp_path)
    read_directory(tmp_path / "m")
    assert not it.is_warm()
    it.read()
    assert it.is_warm()
    assert not resolved(tmp_path, gpus=2).is_warm(), "each has half then"
