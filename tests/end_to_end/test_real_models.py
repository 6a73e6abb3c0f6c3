"""Real models of other shapes than SmolLM2: sliding windows, tied embeddings, a large vocabulary, mixed types."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from lmxd_process import Lmxd, post

MIB = 2**20


@pytest.mark.parametrize(
    "profile",
    [
        {"context_length": 2048},
        {"context_length": 8192, "slots": 2, "swa_full": True},
        {"context_length": 4096, "cache_type_k": "q8_0", "cache_type_v": "q8_0", "flash_attention": "on"},
        {"context_length": 4096, "repack": False},
    ],
)
def test_gemma3_answers_within_its_promise(tmp_path: Path, gemma3: Path, profile: dict[str, object]) -> None:
    config = {
        "gpu": {"device": "host", "max_memory_gb": 3},
        "engine": {"endpoint": "tcp"},
        "models": {"gemma3": {"path": str(gemma3)} | profile},
    }
    with Lmxd(tmp_path, config) as running, running.client() as client, client.request("gemma3") as lease:
        body = {"prompt": "The capital of France is", "n_predict": 32, "temperature": 0}
        assert re.search("France|French", post(lease, "/completion", body)["content"]), "it is a base model"
        [instance] = client.instances().instances
        assert instance.pid is not None
        promised = instance.promised["host"]
        pages = int(Path(f"/proc/{instance.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        assert pages <= promised + max(64 * MIB, promised // 100)
        assert promised - pages < promised // 3, "it is no guess"
