"""The first NVIDIA GPU of this machine, for tests that are run by hand where there is one."""

from __future__ import annotations

from typing import Any

import pytest

nvml = pytest.importorskip("pynvml")


def _first() -> Any:
    try:
        nvml.nvmlInit()
        return nvml.nvmlDeviceGetHandleByIndex(0)
    except nvml.NVMLError:
        return None


GPU = _first()
"""Its handle; None if there is none."""
needs_gpu = pytest.mark.skipif(GPU is None, reason="there is no NVIDIA GPU")
