"""Why an engine of one's own gave up, as its log says it."""

from __future__ import annotations

from pathlib import Path

import pytest
from engines.plans import plan_in

from lmxd.engines.command import CommandEngine
from lmxd.failures import FailureCode

STACK = ["Traceback (most recent call last):", '  File "server.py", line 3, in serve', "    forward(x)"]
UVICORN = ["", "ERROR:    Application startup failed. Exiting."]


@pytest.mark.parametrize(
    ("lines", "status", "code", "said"),
    [
        (
            [*STACK, "RuntimeError: The size of tensor a (4099) must match", *UVICORN],
            3,
            FailureCode.EXITED,
            "status 3: RuntimeError: The size of tensor a (4099) must match",
        ),
        (
            [*STACK, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB.", *UVICORN],
            3,
            FailureCode.OUT_OF_MEMORY,
            "CUDA out of memory",
        ),
        (["usage: x [-h]", "infinity_emb: error: unrecognized arguments: -y"], 2, FailureCode.BAD_FLAG, "-y"),
        (
            [*STACK, "ModuleNotFoundError: No module named 'requests'"],
            1,
            FailureCode.ENGINE_BROKEN,
            "No module named 'requests'",
        ),
        (["it says nothing"], 1, FailureCode.EXITED, "its log does not say why"),
        ([*STACK, "RuntimeError: it was shot"], -9, FailureCode.KILLED, "killed"),
    ],
)
def test_the_cause_is_told(tmp_path: Path, lines: list[str], status: int, code: FailureCode, said: str) -> None:
    found = CommandEngine().diagnose(plan_in(tmp_path), status, lines)
    assert found.code is code
    assert said in found.message
