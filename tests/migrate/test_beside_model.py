"""Flags for files beside a model, as keys of a profile."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from lmxd.config.profile import Profile
from lmxd.migrate.report import Report
from lmxd.migrate.words import settings

N_MATCH = ["--spec-ngram-mod-n-match", "24"]


def imported(words: str) -> tuple[dict[str, Any], Report]:
    report = Report()
    return settings(shlex.split(words), report.about("m")), report


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        ("-mm p.gguf --no-mmproj-offload", {"mmproj": "p.gguf", "mmproj_offload": False}),
        ("--lora a.gguf,b.gguf", {"lora": ["a.gguf", "b.gguf"]}),
        ("--lora a.gguf --lora-scaled b.gguf:0.5", {"lora": ["a.gguf", {"path": "b.gguf", "scale": 0.5}]}),
        ("-md d.gguf --draft-max 8 -ngld 99", {"draft": {"path": "d.gguf", "tokens": 8, "gpu_layers": 99}}),
        ("-md d.gguf -ngld 999 -ctkd q8_0", {"draft": {"path": "d.gguf", "cache_type_k": "q8_0"}}),
        ("-md d.gguf --spec-type draft-simple", {"draft": {"path": "d.gguf"}}),
        ("--spec-type draft-mtp --spec-draft-n-max 2", {"mtp": 2}),
        ("--spec-type ngram-mod --spec-ngram-mod-n-match 24", {"ngram": "mod", "engine_flags": N_MATCH}),
        ("--spec-type ngram-map-k4v", {"ngram": "map-k4v"}),
        ("--spec-default", {"ngram": "mod"}),
        ("--n-cpu-moe 12", {"n_cpu_moe": 12}),
        ("-cmoe", {"n_cpu_moe": "all"}),
        ("-ncffn 8", {"n_cpu_ffn": 8}),
        ("-ot exps=CPU -ot 'blk\\.1\\.=CPU'", {"override_tensor": ["exps=CPU", r"blk\.1\.=CPU"]}),
        ("-np 4 -c 8192 -kvu", {"slots": 4, "context_length": 8192, "kv_unified": True}),
        ("-np 4 -c 8192 -no-kvu", {"slots": 4, "context_length": 2048}),
        ("--no-repack --swa-full --props", {"repack": False, "swa_full": True, "props": True}),
        ("--chat-template-file t.jinja", {"chat_template_file": "t.jinja"}),
        ("--grammar-file g.gbnf", {"grammar_file": "g.gbnf"}),
        ("-fit on", {"fit": "auto"}),
        ("--fit off", {}),
    ],
)
def test_each_flag_has_its_key(words: str, keys: dict[str, Any]) -> None:
    found, report = imported(words)
    assert found == keys
    assert report.left == []
    Profile.model_validate(found)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--spec-draft-n-max 4", "draft: there is no draft model"),
        ("-md d.gguf --spec-type draft-eagle3", "--spec-type: draft-eagle3 has no counterpart here"),
        ("-md d.gguf --spec-default", "--spec-type: ngram-mod has no counterpart here"),
        ("--spec-type ngram-cache", "--spec-type: ngram-cache has no counterpart here"),
        ("--spec-ngram-mod-n-max 32", "it changes the size that was admitted; use the key ngram"),
        ("-ncmoe many", "-ncmoe is 'many', which is no number"),
        ("-md d.gguf -ngld some", "-ngld is 'some', which is no number"),
        ("--lora-scaled a.gguf:much", "--lora-scaled a.gguf:much is not FILE:SCALE"),
        ("--mmproj", "--mmproj: has no value"),
    ],
)
def test_what_has_no_key_is_told(words: str, sentence: str) -> None:
    _, report = imported(words)
    assert any(sentence in line for line in report.left), report.left


def test_what_a_profile_does_anyway_needs_no_key() -> None:
    found, report = imported("--repack --mmproj-offload")
    assert (found, report.left) == ({}, [])
    assert len(report.unneeded) == 2


def test_no_secret_among_the_flags_is_shown() -> None:
    _, report = imported("-hft hush --hf-token=hush --api-key hush --mcp-servers-json hush --the-secret hush -fitt 64")
    said = "\n".join([*report.left, *report.unneeded])
    assert "hush" not in said
    assert "-hft is refused: llama-server fetches nothing here; lmxd pull does, with HF_TOKEN (not shown)" in said
    assert "-fitt 64" in said
    _, report = imported("--image-max-tokens 256")
    assert "(it was 256)" in "\n".join(report.left)
