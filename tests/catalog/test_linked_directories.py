"""Links in model directories: engines open what is in them by name, and nothing that is elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

from hf_directory import LLAMA, hf_directory, llama_tensors

from lmxd.catalog.model_files import ModelFiles
from lmxd.config.file import parse
from lmxd.errors import LmxdError


def found(tmp_path: Path, owner: int | None = None) -> Path | LmxdError:
    config = parse(f"model_dir: {tmp_path}/models\nmodels: {{m: {{engine: vllm}}}}", "test")
    return ModelFiles(config, owner).directory("m", None)


def model(tmp_path: Path) -> Path:
    return hf_directory(tmp_path / "models/m", LLAMA, llama_tensors())


def test_a_file_that_is_elsewhere_is_refused_and_named(tmp_path: Path) -> None:
    path, secret = model(tmp_path), tmp_path / "secret"
    secret.write_text("of another")
    (path / "vocab.json").symlink_to(secret)
    refused = found(tmp_path)
    assert isinstance(refused, LmxdError)
    assert refused.code == "model_file_forbidden"
    assert f"vocab.json is {secret}" in refused.message
    assert found(tmp_path, os.geteuid()) == path, "the daemon of a user opens that user's files"


def test_links_within_the_directories_for_models_are_followed(tmp_path: Path) -> None:
    path = model(tmp_path)
    (path / "model.safetensors").rename(tmp_path / "models/blob")
    (path / "model.safetensors").symlink_to("../blob")
    (path / "nowhere").symlink_to("gone")
    assert found(tmp_path) == path
