"""A plan to start from."""

from __future__ import annotations

from pathlib import Path

from lmxd.engines.engine import Plan
from lmxd.engines.visibility import Gpu


def plan_in(home: Path) -> Plan:
    return Plan(
        instance="m#1", profile="m", model=Path("/models/m.gguf"), context=4096, slots=2, batch=2048, ubatch=512,
        cache_type_k="q8_0", cache_type_v="f16", flash="auto", gpu_layers=None, threads=4, flags=("--jinja",),
        gpus=(Gpu(id="GPU-a"),), endpoint="tcp", home=home,
    )  # fmt: skip
