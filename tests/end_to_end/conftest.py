"""A daemon over the real llama-server and a real model, in RAM."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from house import fake_engine, model
from lmxd_process import Lmxd

MIB = 2**20


@pytest.fixture
def lmxd(tmp_path: Path, smollm2: Path) -> Callable[..., Lmxd]:
    """Makes a daemon with the model ``smollm2`` and a budget of RAM that holds two instances of it."""

    def make(env: dict[str, str] | None = None, profile: dict[str, Any] | None = None, **sections: Any) -> Lmxd:
        models = {"smollm2": {"path": str(smollm2), "context_length": 2048} | (profile or {})}
        return Lmxd(tmp_path, {"gpu": {"device": "host", "max_memory_gb": 0.5}, "models": models} | sections, env)

    return make


@pytest.fixture
def fake(tmp_path: Path) -> Callable[..., Lmxd]:
    """A daemon over the fake engine, for what does not need the real one."""

    def make(env: dict[str, str] | None = None, **sections: object) -> Lmxd:
        model(tmp_path, "m")
        config = {
            "gpu": {"device": "host", "max_memory_gb": 1},
            "engine": {"path": str(fake_engine(tmp_path))},
            "model_dir": str(tmp_path),
            "models": {"m": {"estimated_memory_gb": 0.3}},
        }
        return Lmxd(tmp_path, config | sections, env)

    return make
