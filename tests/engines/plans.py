"""A plan to start from."""

from __future__ import annotations

from pathlib import Path

from lmxd.engines.engine import Plan
from lmxd.engines.visibility import Gpu
from lmxd.gguf.launch import Launch


def plan_in(home: Path) -> Plan:
    return Plan(
        instance="m#1", profile="m", model=Path("/models/m.gguf"),
        launch=Launch(context=4096, slots=2, cache_type_k="q8_0"), threads=4, flags=("--jinja",),
        gpus=(Gpu(id="GPU-a"),), endpoint="tcp", home=home,
    )  # fmt: skip
