"""Files beside a model, from each tool whose configuration is read: their keys, with paths that mean the same here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import vision
import yaml
from adapters import adapter
from house import model
from migrate.test_import_commands import config
from model_caches import in_hub

from lmxd.config.profile import Profile
from lmxd.migrate import (
    compose,
    large_model_proxy,
    llama_server,
    llama_swap,
    modelfile,
    ollama,
    shell_script,
    systemd_unit,
)
from lmxd.migrate.entries import FoundModel

WORDS = (
    "-m {0}/m.gguf -c 64 --mmproj {0}/eyes.gguf --lora {0}/one.gguf --lora-scaled {0}/two.gguf:0.5 "
    "-md {0}/small.gguf --draft-max 4 -ncmoe 2 -ot exps=CPU --chat-template-file {0}/t.jinja --grammar-file {0}/g.gbnf "
    "--pooling mean --rope-scaling yarn --reasoning-format none --jinja"
)
FILES = "eyes.gguf one.gguf two.gguf small.gguf t.jinja g.gbnf".split()


def read(tmp_path: Path, name: str, text: str, reader: Callable[[Path], FoundModel]) -> FoundModel:
    path = tmp_path / name
    path.write_text(text)
    return reader(path)


def by_swap(directory: Path) -> FoundModel:
    whole = {"models": {"m": {"cmd": f"llama-server --port ${{PORT}} {WORDS.format('./weights')}"}}}
    return read(directory, "config.yaml", yaml.safe_dump(whole), llama_swap.read)


def by_script(directory: Path) -> FoundModel:
    return read(directory, "run.sh", f"cd {directory}\nllama-server {WORDS.format('weights')}\n", shell_script.read)


def by_unit(directory: Path) -> FoundModel:
    words = WORDS.format("weights")
    text = f"[Service]\nWorkingDirectory={directory}\nExecStart=/usr/bin/llama-server {words}\n"
    return read(directory, "llm.service", text, systemd_unit.read)


def by_compose(directory: Path) -> FoundModel:
    service = {
        "image": "ghcr.io/ggml-org/llama.cpp:server",
        "volumes": ["./weights:/models"],
        "command": WORDS.format("/models"),
    }
    return read(directory, "compose.yaml", yaml.safe_dump({"services": {"m": service}}), compose.read)


def by_docker(directory: Path) -> FoundModel:
    run = f"docker run -v {directory}/weights:/w ghcr.io/ggml-org/llama.cpp:server {WORDS.format('/w')}"
    return read(directory, "config.yaml", yaml.safe_dump({"models": {"m": {"cmd": run}}}), llama_swap.read)


def by_proxy(directory: Path) -> FoundModel:
    service = {"Name": "m", "Command": "llama-server", "Args": WORDS.format(f"{directory}/weights")}
    return read(directory, "proxy.json", json.dumps({"Services": [service]}), large_model_proxy.read)


def by_presets(directory: Path) -> FoundModel:
    options = (
        "model = weights/m.gguf\nc = 64\nmmproj = weights/eyes.gguf\nlora = weights/one.gguf\n"
        "lora-scaled = weights/two.gguf:0.5\nmd = weights/small.gguf\ndraft-max = 4\nncmoe = 2\not = exps=CPU\n"
        "chat-template-file = weights/t.jinja\ngrammar-file = weights/g.gbnf\n"
        "pooling = mean\nrope-scaling = yarn\nreasoning-format = none\njinja = on\n"
    )
    return read(directory, "models.ini", f"[m]\n{options}", llama_server.read)


@pytest.mark.parametrize(
    "imported", [by_swap, by_script, by_unit, by_compose, by_docker, by_proxy, by_presets], ids=lambda x: x.__name__
)
def test_every_source_has_the_same_files_where_they_are(tmp_path: Path, imported: Any) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    model(weights, "m")
    for name in FILES:
        (weights / name).write_bytes(b"")
    (profile,) = config(imported(tmp_path)).models.values()
    assert {path: path.exists() for path in profile.files} == {weights / name: True for name in FILES}
    assert profile.mmproj == weights / "eyes.gguf"
    assert [(lora.path.name, lora.scale) for lora in profile.lora] == [("one.gguf", 1), ("two.gguf", 0.5)]
    assert profile.draft is not None
    assert (profile.draft.tokens, profile.n_cpu_moe, profile.override_tensor) == (4, 2, ("exps=CPU",))
    assert set(_said(profile)) >= {("pooling", "mean"), ("rope.scaling", "yarn"), ("reasoning_format", "none")}


def _said(profile: Profile) -> list[tuple[str, str | None]]:
    """Keys and values, of flags that were carried over as such, too."""
    words = dict(zip(profile.engine_flags, profile.engine_flags[1:], strict=False))
    return [
        ("pooling", profile.pooling or words.get("--pooling")),
        ("rope.scaling", profile.rope.scaling or words.get("--rope-scaling")),
        ("reasoning_format", profile.reasoning_format or words.get("--reasoning-format")),
    ]


def test_a_file_that_is_inside_of_a_container_alone_is_said(tmp_path: Path) -> None:
    run = "docker run -v /srv:/m ghcr.io/ggml-org/llama.cpp:server -m /m/a.gguf --mmproj /other/p.gguf -c 64"
    found = read(tmp_path, "config.yaml", yaml.safe_dump({"models": {"m": {"cmd": run}}}), llama_swap.read)
    assert any("mmproj: /other/p.gguf is inside of the container" in sentence for sentence in found.left)


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, Path]:
    """A model, a projector and two adapters."""
    model(tmp_path, "m")
    return {
        "model": tmp_path / "m.gguf",
        "projector": vision.projector(tmp_path / "eyes.gguf", 64),
        "adapter": adapter(tmp_path / "one.gguf", 64),
    }


def test_a_modelfile_names_adapters_and_projectors(tmp_path: Path, parts: dict[str, Path]) -> None:
    (tmp_path / "peft").mkdir()
    text = "FROM ./m.gguf\nFROM ./eyes.gguf\nADAPTER ./one.gguf\nADAPTER ./peft\nPARAMETER num_ctx 64\n"
    found = read(tmp_path, "own.Modelfile", text, modelfile.read)
    profile = config(found).models["own"]
    assert (profile.mmproj, [x.path for x in profile.lora]) == (parts["projector"], [parts["adapter"]])
    assert found.left == ["own: lora ./peft: there is no such file, or it is a directory (it must be one GGUF file)"]
    twice = read(tmp_path, "two.Modelfile", "FROM ./m.gguf\nFROM ./m.gguf\nADAPTER ./eyes.gguf\n", modelfile.read)
    assert "two: FROM ./m.gguf: only the first one counts" in twice.left
    assert "two: lora ./eyes.gguf: is no file for that, as its header says" in twice.left


def test_the_layers_of_ollama_s_store_are_files_beside_a_model(tmp_path: Path, parts: dict[str, Path]) -> None:
    store = tmp_path / "store"
    (store / "blobs").mkdir(parents=True)
    layers = []
    for kind, path in parts.items():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        path.rename(store / f"blobs/sha256-{digest}")
        layers.append({"mediaType": f"application/vnd.ollama.image.{kind}", "digest": f"sha256:{digest}"})
    manifest = store / "manifests/registry.ollama.ai/library/seer/latest"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"layers": layers}))
    found = ollama.read(store)
    profile = config(found).models["seer"]
    named = [profile.path, profile.mmproj, *(x.path for x in profile.lora)]
    assert [f"sha256:{path.name.removeprefix('sha256-')}" for path in named if path] == [x["digest"] for x in layers]
    assert found.left == []


def test_a_model_of_a_hub_has_its_projector_unless_it_is_to_be_blind(
    tmp_path: Path, parts: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    in_hub(tmp_path / "hub", "org/seer", "seer-Q4_K_M.gguf", data=parts["model"].read_bytes())
    in_hub(tmp_path / "hub", "org/seer", "mmproj-F16.gguf", data=parts["projector"].read_bytes())
    for more, sees in (("", True), ("--no-mmproj", False)):
        whole = {"models": {"m": {"cmd": f"llama-server -hf org/seer -c 64 {more}"}}}
        found = read(tmp_path, "config.yaml", yaml.safe_dump(whole), llama_swap.read)
        profile = config(found).models["m"]
        assert (profile.path is not None, profile.mmproj is not None) == (True, sees)
