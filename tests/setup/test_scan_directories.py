"""Directories as Hugging Face has them, found where there is a vLLM to serve them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from engines.canned import installed
from hf_directory import LLAMA, hf_directory, llama_tensors

from lmxd.errors import LmxdError
from lmxd.migrate.entries import rendered
from lmxd.models import directories
from lmxd.models.directories import model_directories
from lmxd.models.found import Search
from lmxd.setup.found_profiles import scan
from lmxd.terminal import StillLooking


@pytest.fixture
def vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = installed(tmp_path / "venv", "vllm-0.32.0")
    monkeypatch.setenv("PATH", str(program.parent))
    return program


def cached(root: Path, repository: str, *revisions: str) -> list[Path]:
    """A repository in a hub's cache, whose files are links to its blobs; the last revision is that of main."""
    home = root / f"models--{repository.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs/main").write_text(revisions[-1])
    made = []
    for revision in revisions:
        blobs = hf_directory(home / "blobs" / revision, LLAMA, llama_tensors())
        place = home / "snapshots" / revision
        place.mkdir(parents=True)
        for file in blobs.iterdir():
            (place / file.name).symlink_to(file)
        made.append(place)
    return made


def test_each_is_a_profile_with_its_weights(tmp_path: Path, vllm: Path) -> None:
    path = hf_directory(tmp_path / "models/My Llama", LLAMA, llama_tensors())
    text = rendered(scan([tmp_path / "models"]), "here")
    (name, profile), *others = yaml.safe_load(text)["models"].items()
    assert not others
    assert profile == {"engine": "vllm", "path": str(path)}
    assert name == model_directories(tmp_path)[0].name
    assert "GiB of weights" in text


def test_who_waits_is_told_where_it_looks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On a slow disk it read for minutes without a word."""
    now = 0.0
    looking = StillLooking(lambda: now)
    for name in ("a", "b"):
        hf_directory(tmp_path / name, LLAMA, llama_tensors())
        (tmp_path / name / "m.gguf").write_bytes(b"GGUF")

    def told(place: Path) -> None:
        nonlocal now
        now += 2
        looking(place)

    Search(told=told).look(tmp_path)
    assert capsys.readouterr().err.splitlines() == [
        f"still looking: 3 files and directories so far, now {tmp_path}/a/m.gguf"
    ]
    model_directories(tmp_path, told)
    assert [line.rpartition("now ")[2] for line in capsys.readouterr().err.splitlines()] == [str(tmp_path)]


def test_what_is_not_looked_at_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hf_directory(tmp_path / "a", LLAMA, llama_tensors())
    left: list[str] = []
    model_directories(tmp_path, left=left.append)
    assert left == []
    monkeypatch.setattr(directories, "MOST_ENTRIES", 2)
    model_directories(tmp_path, left=left.append)
    assert left == [f"{tmp_path}: is not looked at to its end, as there are 2 files already"]


def test_without_vllm_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    hf_directory(tmp_path / "models/llama", LLAMA, llama_tensors())
    with pytest.raises(LmxdError, match="there is no model file"):
        scan([tmp_path / "models"])


def test_of_a_repository_the_latest_revision_counts(tmp_path: Path) -> None:
    _, latest = cached(tmp_path, "Qwen/Qwen3-8B", "z-old", "a-new")
    [found] = [each for each in model_directories(tmp_path) if "snapshots" in each.path.parts]
    assert (found.name, found.path) == ("Qwen/Qwen3-8B", latest)
    assert found.size == (latest / "model.safetensors").stat().st_size


@pytest.mark.parametrize(
    "config",
    ["", "[]", "{}", '{"architectures": 3}', '{"architectures": ["BertModel"]}', "[" * 10**5, "\udcff"],
)
def test_what_is_no_model_that_writes_is_passed_by(tmp_path: Path, config: str) -> None:
    path = hf_directory(tmp_path / "m", LLAMA, llama_tensors())
    assert model_directories(tmp_path)
    (path / "config.json").write_bytes(config.encode("utf-8", "surrogateescape"))
    assert model_directories(tmp_path) == []


def test_one_whose_weights_are_not_there_is_passed_by(tmp_path: Path) -> None:
    [place] = cached(tmp_path / "hub", "a/b", "r")
    (place / "model.safetensors").unlink()
    (place / "model.safetensors").symlink_to(tmp_path / "nowhere")
    assert [each for each in model_directories(tmp_path) if each.path == place] == []


def test_a_link_that_leads_back_is_not_followed(tmp_path: Path) -> None:
    path = hf_directory(tmp_path / "m", LLAMA, llama_tensors())
    (path / "again").symlink_to(tmp_path)
    assert [each.path for each in model_directories(tmp_path)] == [path]
    assert json.loads((path / "config.json").read_text())["architectures"]
