"""Modelfiles as people write them: quotes over lines, comments behind numbers, directories, and paths elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from house import model
from migrate.test_import_commands import config, unneeded

from lmxd.migrate import modelfile
from lmxd.migrate.entries import FoundModel


@pytest.fixture(autouse=True)
def no_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "none"))


def read(tmp_path: Path, text: str) -> FoundModel:
    path = tmp_path / "own.Modelfile"
    path.write_text(text)
    return modelfile.read(path)


def test_quotes_go_over_lines_and_comments_stand_behind_numbers(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        'from "/m/x.gguf"\nSYSTEM "You are one.\nNever two."\nparameter temperature 0.2   # low\n'
        'PARAMETER num_ctx 512 # small\nPARAMETER stop "#"\nMESSAGE user """a\nb"""\nTEMPLATE {{ .Prompt }} "x"\n',
    )
    profile = config(found).models["own"]
    assert (profile.path, profile.context_length) == (Path("/m/x.gguf"), 512)
    assert profile.engine_flags == ("--temp", "0.2", "--reverse-prompt", "#")
    left = "\n".join(found.left)
    for said in ("(it was You are one. Never two.)", '(it was user """a b""")', '(it was {{ .Prompt }} "x")'):
        assert said in left


def test_a_directory_stands_for_its_only_model(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    found = read(tmp_path, "FROM ./weights")
    assert not config(found).models
    assert "own: FROM ./weights is a directory with 0 GGUF files: name one" in found.left[0]
    path = model(tmp_path / "weights", "w-Q4_0")
    found = read(tmp_path, "FROM ./weights")
    assert config(found).models["own"].path == path
    assert f"FROM ./weights: is {path}" in unneeded(found)


def test_a_path_of_windows_is_none_here(tmp_path: Path) -> None:
    found = read(tmp_path, "FROM C:\\models\\x.gguf")
    assert not config(found).models
    assert "own: FROM C:\\models\\x.gguf is a path of Windows" in found.left[0]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ("use_mlock true", ("--mlock",)),
        ("use_mmap false", ("--no-mmap",)),
        ("use_mmap false\nPARAMETER use_mlock true", ("--no-mmap", "--mlock")),
        ("use_mmap true\nPARAMETER use_mlock false", ()),
        ("repeat_last_n -1", ("--repeat-last-n", "131072")),
        ("repeat_last_n 64", ("--repeat-last-n", "64")),
    ],
)
def test_how_a_file_is_read_and_a_text_looked_back_at_are_carried_over(
    tmp_path: Path, parameters: str, words: tuple[str, ...]
) -> None:
    found = read(tmp_path, f"FROM /m/x.gguf\nPARAMETER {parameters}\n")
    assert config(found).models["own"].engine_flags == words
    assert not found.left
