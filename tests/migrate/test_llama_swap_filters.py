"""llama-swap's filters become what a profile strips and sets, and variants by the same names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from lmxd.config.file import parse
from lmxd.config.schema import Config
from lmxd.migrate import llama_swap
from lmxd.migrate.entries import FoundModel, rendered


def read(directory: Path, models: Any, **more: Any) -> tuple[FoundModel, Config]:
    path = directory / "config.yaml"
    whole = {name: {"cmd": "llama-server -m /x.gguf", **model} for name, model in models.items()}
    path.write_text(yaml.safe_dump({"models": whole, **more}, sort_keys=False))
    found = llama_swap.read(path)
    return found, parse(rendered(found, "a test"), "a test")


def test_what_its_example_says(tmp_path: Path) -> None:
    filters = {
        "stripParams": "temperature, ${more},, top_k",
        "setParams": {"temperature": 0.7, "stop": ["a"], "nested": {"a": [None, True]}},
        "setParamsByID": {
            "${MODEL_ID}": {"chat_template_kwargs": {"reasoning_effort": "medium"}},
            "${MODEL_ID}:high": {"chat_template_kwargs": {"reasoning_effort": "high"}},
            "gpt-4o": {"temperature": 1},
        },
    }
    models = {"qwen3": {"aliases": ["gpt-4o", "mine"], "filters": filters, "macros": {"more": "top_p"}}}
    found, config = read(tmp_path, models, hooks={"on_startup": {"preload": ["qwen3:high"]}})
    profile = config.models["qwen3"]
    assert profile.strip == ("temperature", "top_p", "top_k")
    assert profile.set == {
        "temperature": 0.7,
        "stop": ["a"],
        "nested": {"a": [None, True]},
        "chat_template_kwargs": {"reasoning_effort": "medium"},
    }
    assert profile.aliases == ("mine",)
    high, other = profile.variants["high"], profile.variants["gpt-4o"]
    assert (high.set, high.aliases) == ({"chat_template_kwargs": {"reasoning_effort": "high"}}, ())
    assert (other.set, other.aliases) == ({"temperature": 1}, ("gpt-4o",))
    assert all(config.is_variant(name) for name in ("qwen3:high", "gpt-4o", "mine:high"))
    assert profile.preload
    assert (
        "qwen3: filters.setParamsByID.qwen3: counts by every name here, unless a variant sets otherwise" in found.left
    )
    assert not [words for words in found.left if "no counterpart" in words]


def test_a_selector_of_a_variant_means_that(tmp_path: Path) -> None:
    by_id = {"a:high": {"x": 1}, "other": {"x": 2}}
    selectors = {"smart": {"targets": ["none", "a:high"]}, "quick": {"targets": ["a"]}, "third": {"targets": ["other"]}}
    _, config = read(tmp_path, {"a": {"filters": {"setParamsByID": by_id}}}, selectors=selectors)
    assert config.models["a"].aliases == ("quick",)
    assert {tag: variant.aliases for tag, variant in config.models["a"].variants.items()} == {
        "high": ("smart",),
        "other": ("other", "third"),
    }


def test_the_older_name_and_what_cannot_be(tmp_path: Path) -> None:
    filters = {
        "strip_params": "model, seed",
        "setParams": {"stream": False, "api_key": "sk-x", "model": "y", "ok": 1},
        "setParamsByID": {"a:t": {"id_slot": 3}, "no name": {"x": 1}, "b": {"x": 2}, "a:latest": {"x": 3}, "a:z": 4},
        "other": 5,
    }
    found, config = read(tmp_path, {"a": {"filters": filters}, "b": {}, "c": {"aliases": ["a:u"]}})
    profile = config.models["a"]
    assert (profile.set, profile.strip) == ({"api_key": "sk-x", "ok": 1}, ("seed",))
    assert {tag: variant.set for tag, variant in profile.variants.items()} == {
        "t": {}, "no-name": {"x": 1}, "b": {"x": 2}, "variant": {"x": 3}, "z": {},
    }  # fmt: skip
    assert profile.variants["variant"].aliases == ("a:latest",)
    left = "\n".join(found.left)
    for said in (
        "a: filters.strip_params: model cannot be set or stripped",
        "a: filters.setParams.stream: stream cannot be set or stripped: a client reads its answer as it asked for it"
        " (it was false)",
        "a: filters.setParams.model: model cannot be set",
        "a: filters.setParamsByID.a:t.id_slot: id_slot cannot be set or stripped: lmxd says who has which slot",
        "a: variants.no-name.aliases: no name is no name of a model here",
        "a: variants.b.aliases: b is the name of another",
        "a: filters: has no counterpart here (it was other: 5; setParamsByID.a:z: 4)",
    ):
        assert said in left, said


def test_a_variant_whose_name_is_taken_is_left_out_and_said(tmp_path: Path) -> None:
    by_id = {"a:u": {"x": 1}, "a:v": {"x": 2}}
    found, config = read(tmp_path, {"a": {"filters": {"setParamsByID": by_id}}, "c": {"aliases": ["a:u"]}})
    assert list(config.models["a"].variants) == ["v"]
    assert config.models["c"].aliases == ("a:u",)
    assert "a: variants.u: a:u is the name of another" in found.left


def test_what_replaces_an_object_there_replaces_it_here(tmp_path: Path) -> None:
    filters = {"setParams": {"k.a": 1, "l.a": 1}, "setParamsByID": {"a": {"k": {"b": 2}}}}
    _, config = read(tmp_path, {"a": {"filters": filters}})
    assert config.models["a"].set == {"l.a": 1, "k": {"b": 2}}


PARAMETERS = st.dictionaries(st.sampled_from(("a", "a.b", "model", "", "x y", ".")), st.floats() | st.text(max_size=3))
IDS = st.sampled_from(("m", "m:t", "n", "n:t", "m:latest", "x/y:z", "a b", "", ":", "m:" + "t" * 130, "t"))


@given(
    own=st.dictionaries(IDS, PARAMETERS, max_size=4),
    other=st.dictionaries(IDS, PARAMETERS, max_size=4),
    aliases=st.lists(IDS, max_size=3),
)
def test_whatever_they_are_called_the_configuration_is_one(
    tmp_path_factory: Any, own: Any, other: Any, aliases: Any
) -> None:
    models = {
        "m": {"filters": {"setParamsByID": own}, "aliases": aliases},
        "n": {"filters": {"setParamsByID": other, "setParams": other.get("m", {})}},
    }
    read(tmp_path_factory.getbasetemp(), models)
