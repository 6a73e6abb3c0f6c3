"""Model files are found however deep they lie, in the layouts of other tools, each once, by a name of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from house import model
from model_caches import in_hub, in_llama_cache, in_lm_studio, in_ollama, split

from lmxd.models.found import ModelOnDisk, Search
from lmxd.models.layouts import usual_places
from lmxd.models.quants import quant_of


def found(*directories: Path) -> dict[str, ModelOnDisk]:
    search = Search()
    for directory in directories:
        search.look(directory)
    assert search.unread == []
    return {each.name: each for each in search.models}


@pytest.mark.parametrize(
    ("file", "quant"),
    [
        ("Qwen3-8B-Q4_K_M.gguf", "Q4_K_M"),
        ("qwen2.5-7b-instruct-q4_0.gguf", "Q4_0"),
        ("Qwen3-30B-A3B-UD-IQ2_XXS.gguf", "UD-IQ2_XXS"),
        ("model.Q8_0.gguf", "Q8_0"),
        ("gpt-oss-20b-MXFP4_MOE.gguf", "MXFP4_MOE"),
        ("x-BF16-00001-of-00003.gguf", "BF16"),
        ("Q8_0/x-00001-of-00002.gguf", None),
        ("IQ-test.gguf", None),
        ("stories260K.gguf", None),
    ],
)
def test_a_file_s_name_says_its_quantization(file: str, quant: str | None) -> None:
    assert quant_of(file) == quant


def test_a_hub_s_cache_is_found_by_repository_and_quantization(tmp_path: Path) -> None:
    small = in_hub(tmp_path, "unsloth/Qwen3-8B-GGUF", "Qwen3-8B-Q4_K_M.gguf")
    in_hub(tmp_path, "unsloth/Qwen3-8B-GGUF", "Q8_0/Qwen3-8B-Q8_0.gguf")
    in_hub(tmp_path, "ggml-org/models", "tinyllamas/stories260K.gguf")
    projector = in_hub(tmp_path, "org/seeing", "mmproj-F16.gguf")
    in_hub(tmp_path, "org/seeing", "mmproj-BF16.gguf")
    in_hub(tmp_path, "org/seeing", "seeing-Q4_0.gguf")
    models = found(tmp_path)
    assert models.keys() == {
        "unsloth/Qwen3-8B-GGUF:Q4_K_M",
        "unsloth/Qwen3-8B-GGUF:Q8_0",
        "ggml-org/models:stories260K",
        "org/seeing:Q4_0",
    }
    assert models["unsloth/Qwen3-8B-GGUF:Q4_K_M"].path == small
    assert models["org/seeing:Q4_0"].projector == projector


def test_of_two_revisions_the_branch_s_own_has_the_name(tmp_path: Path) -> None:
    in_hub(tmp_path, "o/r", "r-Q4_0.gguf", revision="aaa000", data=b"old")
    new = in_hub(tmp_path, "o/r", "r-Q4_0.gguf")
    in_hub(tmp_path, "o/r", "r-Q4_0.gguf", revision="zzz999", data=new.read_bytes())
    models = found(tmp_path)
    assert models["o/r:Q4_0"].path == new
    assert len(models) == 2, "a revision with the same file is no further model"


def test_llama_cpp_s_cache_lm_studio_and_ollama_s_store(tmp_path: Path) -> None:
    in_llama_cache(tmp_path / "llama.cpp", "ggml-org/gemma_3-4b-GGUF", "gemma-3-4b-Q4_K_M.gguf")
    in_lm_studio(tmp_path / "lmstudio", "bartowski/Llama-3.2-GGUF", "Llama-3.2-Q6_K.gguf")
    blob = in_ollama(tmp_path / "ollama/models", "registry.ollama.ai/library/llama3/8b")
    in_ollama(tmp_path / "ollama/models", "hf.co/someone/some-model/Q4_K_M")
    models = found(tmp_path / "llama.cpp", tmp_path / "lmstudio", tmp_path / "ollama")
    assert models.keys() == {
        "ggml-org/gemma_3-4b-GGUF:Q4_K_M",
        "bartowski/Llama-3.2-GGUF:Q6_K",
        "llama3:8b",
        "hf.co/someone/some-model:Q4_K_M",
    }
    assert models["llama3:8b"].path == blob


def test_links_are_followed_and_a_file_is_one_model_by_however_many_names(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    model(tmp_path / "far", "m-Q4_0")
    (tmp_path / "near").mkdir()
    (tmp_path / "near/more").symlink_to("../far")
    (tmp_path / "far/back").symlink_to("../near")
    (tmp_path / "near/again.gguf").symlink_to("../far/m-Q4_0.gguf")
    assert len(found(tmp_path / "near")) == 1
    assert len(found(tmp_path)) == 1


def test_the_parts_of_a_split_model_are_one_and_missing_parts_are_counted(tmp_path: Path) -> None:
    whole = split(tmp_path / "o/r/Q8_0", "big-Q8_0", 3)
    torn = split(tmp_path, "torn", 3)
    torn[0].unlink()
    models = found(tmp_path)
    assert models["o/r:Q8_0"].parts == tuple(whole)
    assert models["o/r:Q8_0"].size == sum(p.stat().st_size for p in whole)
    assert (models["torn"].missing, models["torn"].path) == (1, torn[0])


def test_two_files_of_one_quantization_have_names_of_their_own(tmp_path: Path) -> None:
    in_lm_studio(tmp_path, "o/r", "first-Q4_0.gguf")
    in_lm_studio(tmp_path, "o/r", "second-Q4_0.gguf")
    assert found(tmp_path).keys() == {"o/r:Q4_0", "o/r:second-Q4_0"}


def test_a_directory_that_cannot_be_read_is_said_and_the_others_are_looked_at(tmp_path: Path) -> None:
    model(tmp_path, "m")
    search = Search()
    search.look(tmp_path / "none")
    search.look(tmp_path)
    assert [each.name for each in search.models] == ["m"]
    assert search.unread == [f"{tmp_path / 'none'}: No such file or directory"]


def test_directories_that_are_too_deep_or_hidden_are_not_looked_at(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d"] * 14)
    deep.mkdir(parents=True)
    model(deep, "m")
    (tmp_path / ".locks").mkdir()
    model(tmp_path / ".locks", "hidden")
    search = Search()
    search.look(tmp_path)
    assert search.models == []
    assert ["is too deep" in sentence for sentence in search.unread] == [True]


def test_the_usual_places_follow_the_variables_of_their_tools(tmp_path: Path) -> None:
    environ = {"HF_HOME": "/h", "LLAMA_CACHE": "/l", "OLLAMA_MODELS": "/o", "XDG_CACHE_HOME": "/c"}
    places = usual_places(environ, tmp_path)
    assert {Path("/h/hub"), Path("/l"), Path("/o"), Path("/c/lm-studio/models")} <= set(places)
    assert Path("/x") in usual_places({"HF_HUB_CACHE": "/x"}, tmp_path)
    assert {tmp_path / ".cache/huggingface/hub", tmp_path / ".lmstudio/models"} <= set(usual_places({}, tmp_path))
    assert os.path.isabs(usual_places({}, tmp_path)[0])


def test_links_that_lead_nowhere_and_halves_of_files_are_said(tmp_path: Path) -> None:
    path = in_hub(tmp_path, "o/r", "r-Q4_0.gguf")
    (path.parent / "gone-Q8_0.gguf").symlink_to("../../blobs/gone")
    (tmp_path / "models--o--r/blobs/abc.incomplete").write_bytes(b"GGUF")
    for name in ("incomplete-a.Q4_0.gguf", "downloading_b-Q4_0.gguf", "c-Q4_0.gguf.part"):
        (tmp_path / name).write_bytes(b"GGUF")
    os.mkfifo(tmp_path / "pipe.gguf")
    (tmp_path / "directory.gguf").mkdir()
    search = Search()
    search.look(tmp_path)
    assert [each.name for each in search.models] == ["o/r:Q4_0"]
    assert sorted(sentence.partition(": ")[::2] for sentence in search.unread) == [
        (f"{tmp_path}/downloading_b-Q4_0.gguf", "is not fetched to its end, as its name says"),
        (f"{tmp_path}/incomplete-a.Q4_0.gguf", "is not fetched to its end, as its name says"),
        (f"{path.parent}/gone-Q8_0.gguf", "is a link that leads nowhere"),
    ]


def test_files_that_are_called_model_have_the_names_of_their_directories(tmp_path: Path) -> None:
    for directory, file in {
        "Jan/unsloth/gemma-GGUF": "model",
        "tiny": "ggml-model-Q4_0",
        "huggingface/ggml-org/Smol/snapshots/sha256-abc": "Smol-Q8_0",
        "plain": "models-of-mine",
    }.items():
        (tmp_path / directory).mkdir(parents=True)
        model(tmp_path / directory, file)
    (tmp_path / "plain/LOUD-Q6_K.GGUF").write_bytes(b"GGUF, loud")
    assert found(tmp_path).keys() == {
        "unsloth/gemma-GGUF",
        "tiny:Q4_0",
        "ggml-org/Smol:Q8_0",
        "models-of-mine",
        "LOUD-Q6_K",
    }


def test_a_model_of_ollama_s_is_found_by_all_its_names(tmp_path: Path) -> None:
    blob = in_ollama(tmp_path, "registry.ollama.ai/library/llama3/8b")
    manifest = tmp_path / "manifests/registry.ollama.ai/library/llama3/8b"
    (manifest.parent / "latest").write_bytes(manifest.read_bytes())
    in_ollama(tmp_path, "registry.example.com:5000/library/own/latest")
    models = found(tmp_path)
    assert models["llama3:8b"].path == blob
    assert models["llama3:8b"].aliases == ("llama3", "llama3:latest")
    assert models["registry.example.com:5000/library/own"].aliases == ("registry.example.com:5000/library/own:latest",)
    manifest.write_text("{")
    (tmp_path / "manifests/registry.ollama.ai/library/llama3/latest").write_text('{"layers": []}')
    search = Search()
    search.look(tmp_path)
    assert search.unread == [f"llama3:8b: {manifest} is no manifest: JSONDecodeError"]


def test_thousands_of_files_are_looked_at_with_a_few_listings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "flat"
    directory.mkdir()
    for number in range(300):
        (directory / f"o_r{number}_m-Q4_0.gguf").write_bytes(b"GGUF%d" % number)
        (directory / f"manifest=o=r{number}=latest.json").write_text("{}")
    listings: list[object] = []

    def counted(own: Callable[[Path], Any], path: Path) -> Any:
        listings.append(path)
        return own(path)

    for name in ("scandir", "listdir"):
        monkeypatch.setattr(os, name, partial(counted, getattr(os, name)))
    assert len(found(tmp_path)) == 300
    assert len(listings) <= 4


def test_the_places_of_more_tools(tmp_path: Path) -> None:
    (tmp_path / ".lmstudio-home-pointer").write_text("/data/lmstudio\n")
    places = set(usual_places({}, tmp_path))
    data = tmp_path / ".local/share"
    assert {Path("/data/lmstudio/models"), data / "nomic.ai/GPT4All", data / "ramalama/store"} <= places
    assert {data / "Jan/data/llamacpp/models", Path("/var/snap/ollama/common/models")} <= places
    assert Path("/old") in usual_places({"HUGGINGFACE_HUB_CACHE": "/old"}, tmp_path)
