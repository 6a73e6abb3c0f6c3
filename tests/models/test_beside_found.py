"""Files beside models are found by their headers: projectors, adapters, drafts, and what writes no text."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import synthetic
import vision
from adapters import adapter
from house import House
from model_caches import in_hub, in_lm_studio

from lmxd.catalog.catalog import Catalog
from lmxd.catalog.served import with_served
from lmxd.config.file import parse
from lmxd.migrate.entries import rendered
from lmxd.models.found import ModelOnDisk, Search
from lmxd.models.roles import Role, facts_of
from lmxd.setup.found_profiles import scan

WIDE, NARROW = 128, 64


def model(path: Path, embedding: int = NARROW, architecture: str = "llama", **metadata: Any) -> Path:
    """A small model that no other file is the same as."""
    found, tensors = synthetic.decoder(
        "llama",
        layers=2,
        embedding=embedding,
        heads=4,
        kv_heads=2,
        feed_forward=128,
        vocabulary=100,
        head=32,
        context=4096,
    )
    renamed = {key.replace("llama.", f"{architecture}."): value for key, value in found.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    synthetic.write(path, renamed | {"general.architecture": architecture} | metadata, tensors)
    return path


def projector(path: Path, embedding: int = NARROW) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return vision.projector(path, embedding)


def looked(*directories: Path) -> tuple[dict[str, ModelOnDisk], list[str]]:
    search = Search()
    for directory in directories:
        search.look(directory)
    return {each.name: each for each in search.models}, search.unread


def test_a_header_says_what_a_file_is_whatever_it_is_called(tmp_path: Path) -> None:
    eyes, words = projector(tmp_path / "eyes.gguf"), adapter(tmp_path / "words-Q8_0.gguf", NARROW)
    llm = model(tmp_path / "seer-Q4_0.gguf")
    assert [facts_of(path).role for path in (eyes, words, llm)] == [Role.PROJECTOR, Role.ADAPTER, Role.MODEL]
    models, unread = looked(tmp_path)
    assert models.keys() == {"seer-Q4_0"}
    assert models["seer-Q4_0"].projector == eyes
    assert unread == [f"{words}: is an adapter (LoRA): name it by the key lora of the model that it is for"]


@pytest.mark.parametrize("name", ["Mistral-DRAFT-0.5B-Q4_0", "qwen3-draft", "mtp-qwen3-Q8_0"])
def test_a_draft_is_no_model_to_ask(tmp_path: Path, name: str) -> None:
    model(tmp_path / "Qwen3-MTP-Q4_K_M.gguf")
    draft = model(tmp_path / f"{name}.gguf", architecture="qwen3")
    models, unread = looked(tmp_path)
    assert models.keys() == {"Qwen3-MTP-Q4_K_M"}
    assert unread == [f"{draft}: is a draft model, by its name: name it by the key draft of the model that it is for"]


def test_models_and_projectors_of_one_directory_are_paired_by_width_and_name(tmp_path: Path) -> None:
    for name in ("gemma-3-4b-it-Q4_K_M", "gemma-3-4b-it-Q8_0", "plain-4b-Q4_0"):
        model(tmp_path / f"{name}.gguf", WIDE)
    model(tmp_path / "llava-7b.Q4_K_M.gguf", NARROW)
    gemma = projector(tmp_path / "mmproj-gemma-3-4b-it-f16.gguf", WIDE)
    projector(tmp_path / "mmproj-gemma-3-4b-it-BF16.gguf", WIDE)
    llava = projector(tmp_path / "llava-7b-mmproj-model-f16.gguf", NARROW)
    models, unread = looked(tmp_path)
    assert unread == []
    assert {name: found.projector for name, found in models.items()} == {
        "gemma-3-4b-it-Q4_K_M": gemma,
        "gemma-3-4b-it-Q8_0": gemma,
        "plain-4b-Q4_0": None,
        "llava-7b.Q4_K_M": llava,
    }


def test_a_projector_that_is_called_like_none_goes_by_its_width(tmp_path: Path) -> None:
    wide, narrow = model(tmp_path / "a-Q4_0.gguf", WIDE), model(tmp_path / "b-Q4_0.gguf", NARROW)
    eyes = projector(tmp_path / "mmproj-model-f16.gguf", WIDE)
    models, _ = looked(tmp_path)
    assert [models[path.stem].projector for path in (wide, narrow)] == [eyes, None]


def test_where_nobody_can_tell_which_projector_it_is_that_is_said(tmp_path: Path) -> None:
    model(tmp_path / "m-Q4_0.gguf")
    one, two = projector(tmp_path / "mmproj-day-f16.gguf"), projector(tmp_path / "mmproj-night-f16.gguf")
    models, unread = looked(tmp_path)
    assert models["m-Q4_0"].projector is None
    assert unread == [f"m-Q4_0: its mmproj may be {one} or {two}: name one in its profile"]


def test_a_projector_that_no_model_takes_is_said(tmp_path: Path) -> None:
    model(tmp_path / "gemma-Q4_0.gguf", WIDE)
    projector(tmp_path / "mmproj-gemma-F16.gguf", WIDE)
    projector(tmp_path / "mmproj-gemma-BF16.gguf", WIDE)
    other = projector(tmp_path / "mmproj-pixtral-F16.gguf", WIDE)
    narrow = projector(tmp_path / "mmproj-gemma-tiny.gguf", NARROW)
    said = [
        f"{path}: is a projector, and it is not clear of which model here: name it by the key mmproj of the model that"
        " it is for"
        for path in (narrow, other)
    ]
    assert looked(tmp_path)[1] == said
    assert looked(other)[1] == said[1:], "also where it alone is looked at"


def test_a_projector_above_the_directories_of_quantizations_is_taken(tmp_path: Path) -> None:
    eyes = projector(tmp_path / "mmproj-F16.gguf")
    model(tmp_path / "Q4_0/seer-Q4_0.gguf")
    models, unread = looked(tmp_path)
    assert [found.projector for found in models.values()] == [eyes]
    assert unread == []


@pytest.mark.parametrize("layout", [in_hub, in_lm_studio])
def test_what_is_written_of_a_model_that_sees_is_a_profile_that_does(tmp_path: Path, layout: Any) -> None:
    made = model(tmp_path / "made/m.gguf"), projector(tmp_path / "made/mmproj.gguf")
    for path, name in zip(made, ("seer-Q4_0.gguf", "mmproj-F16.gguf"), strict=True):
        if layout is in_hub:
            in_hub(tmp_path / "there", "org/seer", name, data=path.read_bytes())
        else:
            in_lm_studio(tmp_path / "there", "org/seer", name).write_bytes(path.read_bytes())
    text = rendered(scan([tmp_path / "there"]), "a test")
    config = parse(text, "test")
    profile = config.models["org/seer:Q4_0"]
    assert profile.mmproj is not None
    assert profile.mmproj.name == "mmproj-F16.gguf"
    assert Catalog(config).warnings([]) == []
    served, unread = with_served(parse(f"models_from: ['{tmp_path / 'there'}']", "test"))
    assert unread == []
    assert served.models["org/seer:Q4_0"].mmproj is not None
    found = Catalog(served).resolve("org/seer:Q4_0").sizing.estimate
    assert found(Catalog(served).resolve("org/seer:Q4_0").launch, ()).parts.host.projector > 0


@pytest.mark.parametrize(
    ("metadata", "key"),
    [({"qwen3.pooling_type": 3}, "embedding"), ({"qwen3.pooling_type": 4}, "rerank"), ({}, None)],
)
async def test_a_model_that_writes_no_text_is_served_for_what_it_does(
    tmp_path: Path, metadata: dict[str, Any], key: str | None
) -> None:
    model(tmp_path / "m.gguf", architecture="qwen3", **metadata)
    (entry,) = scan([tmp_path]).entries
    assert {x: entry.settings[x] for x in ("embedding", "rerank") if x in entry.settings} == (
        {key: True} if key else {}
    )
    async with House(tmp_path, models={"m": entry.settings}).open() as h, h.client() as client:
        (listed,) = (await client.models()).models
        assert entry.comment.startswith(f"{listed.bytes['host'] / 2**30:.2f} GiB"), "one figure for one model"
        assert listed.traits == ([key] if key else [])


def test_ollama_s_store_has_projectors_and_adapters_beside_models(tmp_path: Path) -> None:
    store = tmp_path / "models"
    files = {
        "model": model(tmp_path / "m.gguf"),
        "projector": projector(tmp_path / "p.gguf"),
        "adapter": adapter(tmp_path / "a.gguf", NARROW),
    }
    digests = {kind: hashlib.sha256(path.read_bytes()).hexdigest() for kind, path in files.items()}
    (store / "blobs").mkdir(parents=True)
    for kind, path in files.items():
        path.rename(store / f"blobs/sha256-{digests[kind]}")
    for name, kinds in {"plain": ["model"], "seeing": ["model", "projector"], "tuned": ["model", "adapter"]}.items():
        manifest = store / f"manifests/registry.ollama.ai/library/{name}/latest"
        manifest.parent.mkdir(parents=True)
        layers = [{"mediaType": f"application/vnd.ollama.image.{x}", "digest": f"sha256:{digests[x]}"} for x in kinds]
        manifest.write_text(json.dumps({"layers": layers}))
    models, unread = looked(store)
    assert unread == []
    blob = {kind: store / f"blobs/sha256-{digest}" for kind, digest in digests.items()}
    assert models["tuned"].adapters == (blob["adapter"],)
    assert models.keys() >= {"plain", "tuned"}, "a model with an adapter is another one"
    assert models["seeing"].projector == blob["projector"]


def test_nothing_is_taken_from_above_the_directory_that_was_named(tmp_path: Path) -> None:
    """Others may put files there, as into /tmp."""
    own = model(tmp_path / "mine/seer-Q4_0.gguf").parent
    eyes = projector(tmp_path / "mmproj-F16.gguf")
    assert looked(own)[0]["seer-Q4_0"].projector is None
    assert [found.projector for found in looked(tmp_path)[0].values()] == [eyes]


def test_a_model_that_is_named_as_a_file_has_the_projector_beside_it(tmp_path: Path) -> None:
    named, other = model(tmp_path / "gemma-Q4_0.gguf", WIDE), model(tmp_path / "llava-Q4_0.gguf")
    projector(tmp_path / "mmproj-llava-f16.gguf")
    adapter(tmp_path / "words.gguf", NARROW)
    assert looked(named)[0]["gemma-Q4_0"].projector is None, "it is that of the other one"
    eyes = projector(tmp_path / "mmproj-gemma-f16.gguf", WIDE)
    models, unread = looked(named)
    assert {name: found.projector for name, found in models.items()} == {"gemma-Q4_0": eyes}
    assert unread == []
    assert looked(other)[0].keys() == {"llava-Q4_0"}
    part = model(tmp_path / "split-Q4_0-00002-of-00002.gguf")
    first = model(tmp_path / "split-Q4_0-00001-of-00002.gguf")
    for asked in (part, first):
        (found,) = looked(asked)[0].values()
        assert (found.parts, found.missing) == ((first, part), 0)


def test_a_directory_of_projectors_is_not_compared_with_each_of_its_models(tmp_path: Path) -> None:
    for n in range(101):
        (tmp_path / f"mmproj-{n}.gguf").write_bytes(b"GGUF")
    model(tmp_path / "seer-Q4_0.gguf")
    models, unread = looked(tmp_path)
    assert models["seer-Q4_0"].projector is None
    assert unread == [f"{tmp_path}: has 101 mmproj files: name one in each profile"]
