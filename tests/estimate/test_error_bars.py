"""The error bars against what is recorded: each covers what the engine printed, or says that it is not sure."""

from __future__ import annotations

from typing import Any

import pytest
from recorded import REPACKED, covered, loads, named

from lmxd.estimate.arguments import parse
from lmxd.estimate.footprints import Estimate, estimate
from lmxd.estimate.learned import Card
from lmxd.gguf.launch import Launch

MIB = 2**20
CARD = Card(name="NVIDIA H100 80GB HBM3")


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


@pytest.mark.parametrize("name", sorted(covered()))
def test_the_bar_covers_what_was_printed(name: str) -> None:
    known = named(name)
    for load in loads()[name]:
        launch = parse(load["flags"], frozenset() if load["cards"] else REPACKED).resolved(known.context).launch
        found = estimate(known, launch, (CARD,) * load["cards"])
        for error in errors(load, found, launch, known.vocabulary):
            assert abs(error) <= found.uncertain / MIB, (load["flags"], load["cards"], error)
