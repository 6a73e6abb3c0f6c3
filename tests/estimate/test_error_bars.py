"""The error bars against what is recorded: each covers what the engine printed, or says that it is not sure."""

from __future__ import annotations

import functools
import io
import json
import lzma
from typing import Any

import pytest
import synthetic
from recorded import DATA, shape

from lmxd.estimate.arguments import parse
from lmxd.estimate.footprints import Estimate, estimate
from lmxd.estimate.learned import Card
from lmxd.gguf.facts import Unsupported, model_of
from lmxd.gguf.header import read_header
from lmxd.gguf.launch import Launch
from lmxd.gguf.model import Model

MIB = 2**20
REPACKED = frozenset({"q4_0", "q4_k", "iq4_nl", "mxfp4", "q2_k"})
CARD = Card(name="NVIDIA H100 80GB HBM3")


@functools.cache
def model(name: str) -> Model | None:
    data, size = synthetic.header(*shape(name))
    try:
        return model_of(read_header(io.BytesIO(data), size))
    except Unsupported:
        return None


@functools.cache
def loads() -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    with lzma.open(DATA / "buffers_11434.jsonl.xz", "rt") as file:
        for line in file:
            load = json.loads(line)
            if model(load["model"]) is not None:
                found.setdefault(load["model"], []).append(load)
    return found


def errors(load: dict[str, Any], found: Estimate, launch: Launch, vocabulary: int) -> list[float]:
    """MiB by which the buffers of each place are above what was printed."""
    printed = load["buffers"]
    if found.parts.devices:
        return [
            (place.total - place.overhead) / MIB
            - sum(printed.get(f"CUDA{n}.{kind}", 0.0) for kind in ("model", "KV", "RS", "compute"))
            for n, place in enumerate(found.parts.devices)
        ]
    said = sum(size for kind, size in printed.items() if kind.split(".")[1] in ("model", "KV", "RS", "compute"))
    return [(found.host - found.parts.host.overhead - 4 * launch.outputs * vocabulary) / MIB - said]


@pytest.mark.parametrize("name", sorted(loads()))
def test_the_bar_covers_what_was_printed(name: str) -> None:
    known = model(name)
    assert known is not None
    for load in loads()[name]:
        launch = parse(load["flags"], frozenset() if load["cards"] else REPACKED).resolved(known.context).launch
        found = estimate(known, launch, (CARD,) * load["cards"])
        for error in errors(load, found, launch, known.vocabulary):
            assert abs(error) <= found.uncertain / MIB, (load["flags"], load["cards"], error)
