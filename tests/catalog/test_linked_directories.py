"""Links in model directories: engines open what is in them by name, and nothing that is elsewhere."""

from __future__ import annotations

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hf_directory import LLAMA, hf_directory, llama_tensors
from hypothesis import given
from hypothesis import strategies as st

from lmxd.catalog import elsewhere
from lmxd.catalog.model_files import ModelFiles
from lmxd.config.file import parse
from lmxd.errors import LmxdError
from lmxd.estimate.real_paths import RealPaths


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


OPENED = (
    *("config.json", "model.safetensors", "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json"),
    *("chat_template.jinja", "generation_config.json", "1_Pooling/config.json", "additional_chat_templates/t.jinja"),
)
"""Files that vLLM opens by name."""


@pytest.mark.parametrize("name", OPENED)
def test_whatever_engines_open_is_of_the_directory(tmp_path: Path, name: str) -> None:
    path, secret = model(tmp_path), tmp_path / "secret"
    secret.write_text("{}")
    (path / name).parent.mkdir(exist_ok=True)
    (path / name).unlink(missing_ok=True)
    (path / name).symlink_to(secret)
    refused = found(tmp_path)
    assert isinstance(refused, LmxdError)
    assert refused.code == "model_file_forbidden"
    assert f"{path / name} is {secret}" in refused.message
    assert str(tmp_path) in refused.remedy


def test_a_link_may_not_lead_there_by_others(tmp_path: Path) -> None:
    path, secret = model(tmp_path), tmp_path / "secret"
    secret.mkdir()
    (secret / "config.json").write_text("{}")
    beside = tmp_path / "models/beside"
    beside.mkdir()
    (beside / "config.json").symlink_to(secret / "config.json")
    (path / "1_Pooling").symlink_to("../beside")
    refused = found(tmp_path)
    assert isinstance(refused, LmxdError)
    assert f"config.json is {secret}/config.json" in refused.message
    (beside / "config.json").unlink()
    assert found(tmp_path) == path
    (path / "up").symlink_to("..")
    (path / "itself").symlink_to("itself")
    assert found(tmp_path) == path, "a circle is looked at once"


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    path = model(tmp_path)
    (path / "tokenizer.json").unlink(missing_ok=True)
    os.mkfifo(path / "tokenizer.json")
    refused = found(tmp_path)
    assert isinstance(refused, LmxdError)
    assert "tokenizer.json is neither a file nor a directory" in refused.message


def test_a_directory_of_all_the_world_is_none_of_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elsewhere, "MOST", 8)
    path = model(tmp_path)
    assert found(tmp_path) == path
    for number in range(9):
        (path / str(number)).touch()
    refused = found(tmp_path)
    assert isinstance(refused, LmxdError)
    assert "more than 8 files" in refused.message


@pytest.mark.parametrize("said", ["absolute", "in model_dir"])
def test_the_links_of_a_hubs_cache_are_followed(tmp_path: Path, said: str) -> None:
    """Every file of a snapshot is a link to a blob of its repository, two directories up."""
    home = tmp_path / "hub/models--Org--Name"
    blobs = hf_directory(home / "blobs", LLAMA, llama_tensors())
    (blobs / "tokenizer.json").write_text("{}")
    snapshot = home / "snapshots/0123"
    snapshot.mkdir(parents=True)
    for file in blobs.iterdir():
        (snapshot / file.name).symlink_to(f"../../blobs/{file.name}")
    path = snapshot if said == "absolute" else snapshot.relative_to(home.parent)
    place = {"model_dir": str(home.parent)} if said != "absolute" else {}
    config = {**place, "models": {"m": {"engine": "vllm", "path": str(path)}}}
    files = ModelFiles(parse(json.dumps(config), "test"), None)
    assert files.directory("m", path) == snapshot
    other = tmp_path / "hub/models--Org--Other/blobs"
    other.mkdir(parents=True)
    (other / "t").write_text("{}")
    (snapshot / "added_tokens.json").symlink_to("../../../models--Org--Other/blobs/t")
    refused = files.directory("m", path)
    assert (refused == snapshot) is (said != "absolute"), "a path names its repository alone"


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["a", "b", "./c", "../x/d", "sub/a", "..", "x"]))))
def test_real_paths_are_those_of_the_library(links: list[tuple[str, str]]) -> None:
    with TemporaryDirectory() as name:
        top = Path(name) / "x"
        (top / "sub").mkdir(parents=True)
        (top / "sub/a").touch()
        for link, target in links:
            if not os.path.lexists(top / link):
                (top / link).symlink_to(target)
        for path in (*(top / each for each in "abcd"), top / "sub/a", top / "sub/../a", top / "a/.."):
            try:
                wanted: str | None = os.path.realpath(path, strict=True)
            except OSError:
                wanted = None
            try:
                real: str | None = RealPaths().of(str(path))
            except OSError:
                real = None
            assert real == wanted
