"""What is imported is served: from another tool's configuration to a running instance of its model."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import vision
import yaml
from adapters import adapter
from forked import run
from lmxd_process import Lmxd, get_over, post


def test_an_imported_model_has_the_names_the_context_and_the_time_that_it_had(
    fake: Callable[..., Lmxd], tmp_path: Path
) -> None:
    source = tmp_path / "llama-swap.yaml"
    command = {"cmd": f"bash -c 'llama-server --port ${{PORT}} -m {tmp_path}/m.gguf'", "aliases": ["org/name:Q4"]}
    source.write_text(yaml.safe_dump({"models": {"m": command}}))
    done = run([sys.executable, "-m", "lmxd", "import", "llama-swap", str(source)])
    assert done.returncode == 0, done.stderr
    imported = yaml.safe_load(done.stdout)
    with fake(**imported) as running, running.client() as client, client.request("org/name:Q4"):
        (instance,) = running.instances().values()
        assert instance.model == "m"
        assert instance.ctx == 32768, "what its file says that it was trained for, as of a llama-server without -c"
        assert instance.idle_timeout is not None
        assert instance.idle_timeout >= 10**9, "a model without ttl stays until another needs its place"


def by_swap(directory: Path, weights: Path) -> list[str]:
    words = f"-m {weights} --mmproj ./eyes.gguf --lora ./one.gguf -md {weights} --draft-max 2 -c 1024 --jinja -ncmoe 1"
    models = {"m": {"cmd": f"llama-server --port ${{PORT}} {words}"}}
    (directory / "swap.yaml").write_text(yaml.safe_dump({"models": models}))
    return ["llama-swap", str(directory / "swap.yaml")]


def by_script(directory: Path, weights: Path) -> list[str]:
    words = f"-m {weights} --mmproj eyes.gguf --lora-scaled one.gguf:0.5 -c 1024 --reasoning-format none -a m"
    (directory / "run.sh").write_text(f"cd {directory}\nexec llama-server {words}\n")
    return ["script", str(directory / "run.sh")]


def by_presets(directory: Path, weights: Path) -> list[str]:
    text = f"[m]\nmodel = {weights}\nmmproj = eyes.gguf\nlora = one.gguf\nc = 1024\not = blk.0.=CPU\n"
    (directory / "models.ini").write_text(text)
    return ["llama-server", str(directory / "models.ini")]


def by_modelfile(directory: Path, weights: Path) -> list[str]:
    text = f"FROM {weights}\nFROM ./eyes.gguf\nADAPTER ./one.gguf\nPARAMETER num_ctx 1024\n"
    (directory / "m.Modelfile").write_text(text)
    return ["ollama", str(directory / "m.Modelfile")]


@pytest.mark.parametrize("source", [by_swap, by_script, by_presets, by_modelfile], ids=lambda x: x.__name__)
def test_what_was_beside_a_model_is_loaded_with_it(
    lmxd: Callable[..., Lmxd], tmp_path: Path, smollm2: Path, source: Any
) -> None:
    vision.projector(tmp_path / "eyes.gguf", 576)
    adapter(tmp_path / "one.gguf", 576)
    command = [sys.executable, "-m", "lmxd", "import", *source(tmp_path, smollm2)]
    done = run(command)
    assert done.returncode == 0, done.stderr
    imported = yaml.safe_load(done.stdout)
    gpu = {"device": "host", "max_memory_gb": 1}
    with lmxd(models=imported["models"], gpu=gpu) as running, running.client() as client:
        parts = client.estimate("m").host
        assert min(parts["projector"], parts["adapter"]) > 0
        lease = client.request("m")
        url = "data:image/png;base64," + base64.b64encode(vision.picture((255, 0, 0))).decode()
        seen = [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": url}}]
        body = {"messages": [{"role": "user", "content": seen}], "max_tokens": 2}
        assert post(lease, "/v1/chat/completions", body)["usage"]["prompt_tokens"] > 16
        found = json.loads(get_over(str(lease.socket), "/lora-adapters", lease.api_key))
        assert [Path(x["path"]).name for x in found] == ["one.gguf"]
