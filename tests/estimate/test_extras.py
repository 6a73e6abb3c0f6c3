"""What goes with a model, against what build 11434 printed beside a pretended card."""

from __future__ import annotations

import io
from typing import Any

import pytest
import synthetic
from adapters import adapting
from recorded import named, shape

from lmxd.estimate.extras import Extras, added, projector_bytes
from lmxd.estimate.footprints import estimate
from lmxd.estimate.learned import Card
from lmxd.gguf.builds import LATEST
from lmxd.gguf.facts import model_of
from lmxd.gguf.footprint import Footprint, footprint
from lmxd.gguf.header import Header, read_header
from lmxd.gguf.launch import Launch

MIB = 2**20


def header(parts: tuple[dict[str, Any], list[synthetic.Shape]]) -> Header:
    data, size = synthetic.header(*parts)
    return read_header(io.BytesIO(data), size)


def with_extras(name: str, launch: Launch, extras: Extras, devices: int = 1) -> Footprint:
    found = named(name)
    return added(footprint(found, launch, devices), found, launch, devices, extras, LATEST)


def vision(image: int, width: int, inner: int, blocks: int, out: int) -> tuple[dict[str, Any], list[synthetic.Shape]]:
    """A projector as llava has it, with patches of 14 by 14."""
    metadata: dict[str, Any] = {"general.architecture": "clip"} | {
        f"clip.vision.{key}": value
        for key, value in (
            ("image_size", image),
            ("patch_size", 14),
            ("embedding_length", width),
            ("feed_forward_length", inner),
        )
    }
    tensors: list[synthetic.Shape] = [
        ("v.class_embd", (width,), "f32"),
        ("v.patch_embd.weight", (14, 14, 3, width), "f16"),
        ("v.position_embd.weight", (width, (image // 14) ** 2 + 1), "f16"),
        ("mm.0.weight", (width, out), "f16"),
        ("mm.2.weight", (out, out), "f16"),
    ]
    for block in range(blocks):
        for name, rows, columns in (
            ("attn_q", width, width),
            ("attn_k", width, width),
            ("attn_v", width, width),
            ("attn_out", width, width),
            ("ffn_down", width, inner),
            ("ffn_up", inner, width),
        ):
            tensors.append((f"v.blk.{block}.{name}.weight", (rows, columns), "f16"))
    return metadata, tensors


@pytest.mark.parametrize(
    ("parts", "printed"),
    [
        (vision(336, 1024, 4096, 23, 2048), 567.47 + 19.32),
        (vision(896, 1152, 4304, 27, 2048), 808.39 + 148.50),
    ],
)
def test_a_projector_is_its_weights_and_its_largest_image(
    parts: tuple[dict[str, Any], list[synthetic.Shape]], printed: float
) -> None:
    assert projector_bytes(header(parts)) / MIB == pytest.approx(printed, rel=0.015)


def test_a_projector_of_another_kind_has_a_third_more_than_its_weights() -> None:
    _, tensors = vision(336, 1024, 4096, 23, 2048)
    weights = sum(t.nbytes for t in header(({"general.architecture": "clip"}, tensors)).tensors)
    assert projector_bytes(header(({"general.architecture": "clip"}, tensors))) == pytest.approx(
        weights * 4 / 3, rel=0.01
    )


def test_a_projector_goes_to_the_first_card_unless_told_not_to() -> None:
    on, off = (
        with_extras("llama32-1b-q8_0", Launch(context=4096), Extras(projector=MIB, projector_on_device=where), 2)
        for where in (True, False)
    )
    assert [d.projector for d in on.devices] == [MIB, 0]
    assert ([d.projector for d in off.devices], off.host.projector) == ([0, 0], MIB)


def lora() -> Header:
    """Rank 64 for every matrix of Llama 3.2 1B: 86 MiB in f16."""
    return header(adapting("llama", shape("llama32-1b-q8_0")[1], 64))


@pytest.mark.parametrize(("layers", "device", "host"), [(None, 86, 0), (9, 43, 43), (0, 0, 86)])
def test_an_adapter_goes_where_its_base_is(layers: int | None, device: int, host: int) -> None:
    launch = Launch(context=8192, gpu_layers=layers)
    found = with_extras("llama32-1b-q8_0", launch, Extras(adapters=lora().tensors))
    assert (found.device.adapter, found.host.adapter) == (device * MIB, host * MIB)


def test_a_draft_model_is_a_second_model() -> None:
    """Printed: 1252.41 weights, 256.00 cache, 72.01 compute, beside 4155.99, 1024.00 and 124.01 of the target."""
    launch = Launch(context=8192)
    found = with_extras("llama31-8b-q4_0", launch, Extras(draft=named("llama32-1b-q8_0"), draft_launch=launch)).device
    assert found.weights / MIB == pytest.approx(4155.99 + 1252.41, abs=0.02)
    assert found.kv == 1280 * MIB
    assert found.compute / MIB == pytest.approx(124.01 + 72.01, abs=0.2)


def test_drafting_layers_are_loaded_only_for_drafting() -> None:
    metadata, tensors = synthetic.decoder(
        "glm4moe", layers=4, embedding=1024, heads=16, kv_heads=4, feed_forward=2816, vocabulary=32000, head=64,
        extra={"nextn_predict_layers": 1},
    )  # fmt: skip
    found = model_of(header((metadata, tensors)))
    plain, drafting = Launch(context=8192), Launch(context=8192, mtp=True, drafted=3)
    without = added(footprint(found, plain, 1), found, plain, 1, Extras(), LATEST).device
    with_them = added(footprint(found, drafting, 1), found, drafting, 1, Extras(), LATEST).device
    assert with_them.weights - without.weights >= sum(t.nbytes for t in found.skipped)
    assert with_them.kv - without.kv == without.kv // 3
    assert with_them.compute > without.compute


H100 = Card(name="NVIDIA H100 80GB HBM3", build="11434")


@pytest.mark.parametrize(
    ("extras", "fetched"),
    [
        (Extras(), 0),
        (Extras(projector=MIB, image=9 * MIB), 96 + 9),
        (Extras(projector=MIB, image=9 * MIB, projector_on_device=False), 0),
        (Extras(adapters=lora().tensors), 96),
        (Extras(draft=named("llama32-1b-q8_0"), draft_launch=Launch(context=8192)), 10.5),
    ],
    ids=["alone", "projector", "projector in RAM", "adapter", "draft"],
)
def test_what_goes_with_a_model_fetches_more_as_it_is_used(extras: Extras, fetched: float) -> None:
    """On an H100 (build 11434) beside the 8B: an f16 adapter 96 MiB; a projector of 336 px 108, of 896 px 162."""
    target, launch = named("llama31-8b-q4_0"), Launch(context=8192)
    alone, beside = (estimate(target, launch, (H100,), extras=x).parts.device.overhead for x in (Extras(), extras))
    assert (beside - alone) / MIB == pytest.approx(fetched, abs=0.1)
