"""Clients for Node against the gateway over a real llama-server, with their newest versions."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_process import Gateway
from lmxd_process import Lmxd

PACKAGES = "openai @anthropic-ai/sdk ai @ai-sdk/openai @ai-sdk/openai-compatible @ai-sdk/anthropic zod".split()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, few_layers: Path) -> Iterator[Gateway]:
    flags = ["--embeddings", "--pooling", "mean"]
    models = {
        "smollm2": {"path": str(few_layers), "context_length": 1024},
        "embed": {"path": str(few_layers), "context_length": 512, "engine_flags": flags},
    }
    config = {"gpu": {"device": "host", "max_memory_gb": 1.5}, "models": models}
    with Lmxd(tmp_path_factory.mktemp("node"), config) as lmxd, Gateway(lmxd) as gateway:
        yield gateway


@pytest.mark.timeout(300)
def test_openais_anthropics_and_vercels_clients_do_what_their_users_do(gateway: Gateway, tmp_path: Path) -> None:
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("there is no Node here")
    fetch = [npm, "install", "--prefix", str(tmp_path), "--no-audit", "--no-fund", *PACKAGES]
    if subprocess.run(fetch, capture_output=True, timeout=120, check=False).returncode:
        pytest.skip("npm cannot fetch the clients here")
    script = Path(__file__).with_name("node_clients.mjs")
    command = [node, str(script), str(tmp_path / "node_modules"), gateway.url, gateway.key]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert all(found[key] for key in ("chat", "response", "message"))
    assert found["wrong"].startswith("400 ")
    assert found["models"] == ["embed", "smollm2"]
    assert found["nobody"].startswith("404 ")
    assert found["width"] == 576
    for told in found["vercel"].values():
        assert told["problem"] is None
        assert told["text"]
        assert told["streamed"]
        assert told["city"] in ("Paris", "Rome")
        assert told["unknown"].startswith("404 there is no model 'none'")
