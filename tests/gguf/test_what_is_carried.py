"""Which conversations are carried, for all shapes of models that bench/data has."""

from __future__ import annotations

from typing import Final

import pytest
from recorded import covered, loads, named, shape

from lmxd.gguf.carrying import not_carried
from lmxd.gguf.launch import Launch

LAUNCH: Final = Launch(context=4096)
WHOLE_WINDOWS: Final = Launch(context=4096, swa_full=True)


def why(name: str, launch: Launch = LAUNCH, *, alike: bool = True) -> str | None:
    return not_carried(named(name), launch, alike=alike)


def printed(name: str) -> set[str]:
    """The kinds of buffers that llama-server printed for a model, such as KV and RS (the recurrent state)."""
    return {buffer.rpartition(".")[2] for load in loads()[name] for buffer in load["buffers"]}


def says(name: str, key: str) -> bool:
    """Whether a model's file has a value, not 0, of such a key."""
    return any(said.endswith(f".{key}") and bool(value) for said, value in shape(name)[0].items())


@pytest.mark.parametrize("name", covered())
def test_only_what_llama_server_has_in_a_cache_of_cells_is_carried(name: str) -> None:
    kinds = printed(name)
    if "RS" in kinds:
        assert "recurrent state" in (why(name) or "") or "beside its cache" in (why(name) or "")
    if "KV" not in kinds:
        assert why(name) is not None
    if why(name, WHOLE_WINDOWS) is None:
        assert "KV" in kinds
        assert "RS" not in kinds


@pytest.mark.parametrize("name", covered())
def test_only_a_plain_cache_fits_another_number_of_slots(name: str) -> None:
    if why(name, alike=False) is None:
        assert why(name) is None
        if not name.startswith("minicpm3"):  # it has the ranks, and caches K and V all the same
            assert not says(name, "attention.kv_lora_rank")
        assert not says(name, "attention.indexer.key_length")
    elif why(name) is None:
        assert "as many slots" in (why(name, alike=False) or "")


def test_a_window_is_all_that_swa_full_helps() -> None:
    helped = {name for name in covered() if why(name) != why(name, WHOLE_WINDOWS)}
    assert helped == {name for name in covered() if "swa_full: true" in (why(name) or "")}
    assert helped >= {"gemma2@small", "cohere2@small"}


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("llama@small", None),
        ("qwen3@small", None),
        ("deepseek2@small", None),
        ("deepseek32@small", None),
        ("gemma3-4b-q4_0", "its sliding window keeps 1024 tokens"),
        ("mamba2@small", "recurrent state"),
        ("qwen3next@small", "recurrent state"),
        ("bert@small", "no cache"),
        ("llada@small", "no cache"),
        ("deepseek4@small", "never tried"),
    ],
)
def test_the_reason_is_said(name: str, sentence: str | None) -> None:
    found = why(name)
    assert found is None if sentence is None else sentence in (found or "")


def test_images_and_drafts_are_not_in_a_file() -> None:
    model = named("llama@small")
    assert "mmproj" in (not_carried(model, LAUNCH, projector=True) or "")
    assert "drafts" in (not_carried(model, LAUNCH, draft=True) or "")
    assert "drafts" in (not_carried(model, Launch(context=4096, mtp=True, drafted=2)) or "")
