"""The estimate against an H100: what NVML said of real processes, after a first long prompt (bench/data)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from recorded import DATA, named

from lmxd.estimate.arguments import parse
from lmxd.estimate.footprints import Estimate, estimate
from lmxd.estimate.learned import Card

MIB = 2**20
MEASURED = [json.loads(line) for line in (DATA / "h100.jsonl").read_text().splitlines()]
SHARED = [json.loads(line) for line in (DATA / "h100_shared.jsonl").read_text().splitlines()]


def estimated(row: dict[str, Any]) -> Estimate:
    model = named(row["model"])
    launch = parse(row["flags"]).resolved(model.context).launch
    return estimate(model, launch, (Card(name="NVIDIA H100 80GB HBM3"),))


def test_there_is_enough_to_compare_with() -> None:
    """At least 12 shapes and 6 settings: -fa off, both quantized caches, slots, micro-batches, part of the layers."""
    assert len({row["model"] for row in MEASURED}) >= 15
    for setting in ("-fa off", "-ctk q8_0", "-ctk q4_0", "-np 4", "-ub 2048", "-ngl", "-ncmoe"):
        assert any(setting in row["flags"] for row in MEASURED), setting


@pytest.mark.parametrize("row", MEASURED, ids=lambda r: f"{r['model']} {r['flags']}")
def test_within_one_percent_or_64_mib(row: dict[str, Any]) -> None:
    found, took = estimated(row), max(row["loaded"], row["prompted"])
    over = (found.device - took) / MIB
    assert -64 <= over <= max(64, took / 100 / MIB)
    assert abs(found.device - took) <= found.error, "and it says so"


@pytest.mark.parametrize("row", SHARED, ids=lambda r: f"{r['model']} {r['flags']}")
def test_another_sessions_launches_too(row: dict[str, Any]) -> None:
    """Measured by somebody else, of the whole device; NVML has 9 MiB less for the process."""
    found = estimated(row)
    for took in (row["prompted"], row["proc_prompted"]):
        assert -64 <= (found.device - took) / MIB <= max(64, took / 100 / MIB)
