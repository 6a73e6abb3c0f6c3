"""What is imported is served: from another tool's configuration to a running instance of its model."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import yaml
from lmxd_process import Lmxd


def test_an_imported_model_has_the_names_the_context_and_the_time_that_it_had(
    fake: Callable[..., Lmxd], tmp_path: Path
) -> None:
    source = tmp_path / "llama-swap.yaml"
    command = {"cmd": f"bash -c 'llama-server --port ${{PORT}} -m {tmp_path}/m.gguf'", "aliases": ["org/name:Q4"]}
    source.write_text(yaml.safe_dump({"models": {"m": command}}))
    done = subprocess.run(
        [sys.executable, "-m", "lmxd", "import", "llama-swap", str(source)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    imported = yaml.safe_load(done.stdout)
    with fake(**imported) as running, running.client() as client, client.request("org/name:Q4"):
        (instance,) = running.instances().values()
        assert instance.model == "m"
        assert instance.ctx == 32768, "what its file says that it was trained for, as of a llama-server without -c"
        assert instance.idle_timeout is not None
        assert instance.idle_timeout >= 10**9, "a model without ttl stays until another needs its place"
