"""Names of models: as repositories have them, and never what could be taken for a path or an option."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmxd.config.file import parse
from lmxd.config.names import LONGEST, composed, fitting, is_name
from lmxd.errors import ConfigError
from lmxd.files import file_name

REPOSITORIES = ["unsloth/Qwen3-8B-GGUF:Q4_K_M", "hf.co/bartowski/x:IQ2_XXS", "通义/千问-8B", "модель", "Größe", "हिन्दी"]


@pytest.mark.parametrize("name", REPOSITORIES)
def test_names_of_repositories_and_of_any_language_are_names(name: str) -> None:
    config = parse(f"models: {{'{name}': {{aliases: ['x/{name}']}}}}", "test")
    assert list(config.models) == [composed(name)]
    assert config.named(f"x/{name}") == composed(name)
    assert "/" not in file_name(name)


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../b", "/a", "a/", "a//b", "a/.b", "-a", "a b", "a\nb", "a\u202eb", "a\x1bb", "a#1", "", "a" * 129],
)
def test_what_could_be_a_path_an_option_or_a_trick_is_none(name: str) -> None:
    assert not is_name(name)
    with pytest.raises(ConfigError, match="no model name"):
        parse(_aliased(name), "test")


def _aliased(name: str) -> str:
    return json.dumps({"models": {"m": {"aliases": [name]}}})


def test_a_name_is_found_however_its_letters_are_encoded() -> None:
    decomposed = unicodedata.normalize("NFD", "Größe")
    config = parse(_aliased("Größe"), "test")
    assert config.named(decomposed) == "m"
    with pytest.raises(ConfigError, match="how their letters are encoded"):
        parse(f"models: {{'Größe': {{}}, '{decomposed}': {{}}}}", "test")


@given(st.text(max_size=300))
def test_whatever_something_is_called_a_fitting_name_is_made_of_it(words: str) -> None:
    assert is_name(fitting(words))


@given(st.text(max_size=LONGEST).map(fitting))
def test_a_name_that_fits_stays_as_it_is(name: str) -> None:
    assert fitting(name) == name


@given(st.lists(st.text(alphabet="aé通/%", min_size=1, max_size=LONGEST), min_size=2, max_size=2, unique=True))
def test_no_two_names_have_one_file(names: list[str]) -> None:
    first, second = (fitting(name) for name in names)
    assert (file_name(first) == file_name(second)) == (first == second)
    assert len(file_name(first).encode()) <= 200


@pytest.mark.parametrize(
    ("path", "why"), [("a\\0b", "no path has"), ("~nobody-has-this-name/x.gguf", "there is no such user")]
)
def test_a_path_that_can_never_be_is_an_error_of_its_key(path: str, why: str) -> None:
    for key in ("models: {m: {path: %s}}", "model_dir: %s", "model_dirs: [%s]", "engine: {path: %s}"):
        with pytest.raises(ConfigError, match=why):
            parse(key % f'"{path}"', "test")
