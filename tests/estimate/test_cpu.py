"""The closed form in RAM against what build 11434 printed for a real model, SmolLM2-135M (bench/data)."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from recorded import DATA

from lmxd.estimate.arguments import parse
from lmxd.estimate.files import read_model
from lmxd.gguf.footprint import footprint

MIB = 2**20
LOADS = [r for r in csv.DictReader((DATA / "cpu_buffers.csv").open()) if r["model_file"].startswith("SmolLM2")]


def said(row: dict[str, str], column: str) -> float:
    return float(row[column].split("=")[1])


@pytest.mark.parametrize("row", LOADS, ids=lambda r: r["setting"])
def test_buffers_of_a_real_model(row: dict[str, str], smollm2: Path) -> None:
    model = read_model(smollm2)
    launch = parse(row["setting"]).resolved(model.context).launch
    found = footprint(model, launch, 0).host
    assert found.weights / MIB == pytest.approx(said(row, "model"), abs=0.01)
    assert found.kv / MIB == pytest.approx(said(row, "KV"), abs=0.01)
    assert found.compute / MIB == pytest.approx(said(row, "compute_exact") + said(row, "output"), abs=0.1)
    assert launch.cells * launch.streams == int(row["n_ctx"])
