"""Nothing is lost in silence: no leaf of an input file can go or change without a change of what is written or said."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from migrate.test_imports import lmxd

from lmxd.config import yaml_text
from lmxd.config.file import parse
from lmxd.errors import LmxdError
from lmxd.migrate import (
    compose,
    large_model_proxy,
    llama_server,
    llama_swap,
    modelfile,
    shell_script,
    systemd_unit,
)
from lmxd.migrate.entries import FoundModel, rendered
from lmxd.migrate.leaves import is_secret

EXAMPLES = Path(__file__).parent / "examples"
READERS: dict[str, tuple[str, Callable[[Path], FoundModel]]] = {
    "llama-swap.yaml": ("llama-swap", llama_swap.read),
    "compose.yaml": ("compose", compose.read),
    "large-model-proxy.jsonc": ("large-model-proxy", large_model_proxy.read),
    "models.ini": ("llama-server", llama_server.read),
    "Modelfile": ("ollama", modelfile.read),
    "llama.service": ("systemd", systemd_unit.read),
    "serve.sh": ("script", shell_script.read),
}
TREES = ("llama-swap.yaml", "compose.yaml", "large-model-proxy.jsonc")
LINES = ("models.ini", "Modelfile", "llama.service", "serve.sh")
SHELLS_OWN = ("#", ";", "[", "set ", "wait")
"""Begins of lines that say nothing about a model; a section alone is its lines."""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LMXD_TEST_MODELS", "/srv/models")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    for name in ("LMXD_TEST_KEY", "LMXD_TEST_TAG", "CTX", "HF_HOME", "HF_HUB_CACHE", "LLAMA_CACHE"):
        monkeypatch.delenv(name, raising=False)


def told(read: Callable[[Path], FoundModel], path: Path) -> str:
    """All that is written and said of a file; a refusal of the whole is said, too."""
    try:
        found = read(path)
    except LmxdError as error:
        return str(error)
    return rendered(found, "x") + repr(found.report.lines())


Place = tuple[str | int, ...]


def leaves(value: Any, at: Place = ()) -> Iterator[tuple[Place, Any]]:
    if isinstance(value, (dict, list)) and value:
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, (*at, key))
    else:
        yield at, value


def changed(whole: Any, at: Place, value: Any = ...) -> Any:
    """A copy with another value at a place, or without it."""
    made = copy.deepcopy(whole)
    inside = made
    for key in at[:-1]:
        inside = inside[key]
    if value is ...:
        del inside[at[-1]]
    else:
        inside[at[-1]] = value
    return made


def other(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, (int, float)) else f"{value}zq7"


def tree(name: str) -> Any:
    text = (EXAMPLES / name).read_text()
    if name.endswith(".jsonc"):
        text = re.sub(r"(?<!:)//(?! -m)[^\n]*", "", text)
        return json.loads(re.sub(r",(\s*[}\]])", r"\1", text))
    return yaml_text.load(text)


@pytest.mark.parametrize("name", TREES)
def test_no_leaf_goes_or_changes_in_silence(tmp_path: Path, name: str) -> None:
    _, read = READERS[name]
    whole, path = tree(name), tmp_path / name

    def of(value: Any) -> str:
        path.write_text(json.dumps(value) if name.endswith(".jsonc") else yaml.safe_dump(value))
        return told(read, path)

    before = of(whole)
    silent = []
    for at, value in leaves(whole):
        if of(changed(whole, at)) == before:
            silent.append(("gone", at))
        if not any(is_secret(str(key)) for key in at) and of(changed(whole, at, other(value))) == before:
            silent.append(("changed", at))
    assert not silent


@pytest.mark.parametrize(
    ("name", "key"), [("llama-swap.yaml", "cmd"), ("compose.yaml", "command"), ("large-model-proxy.jsonc", "Args")]
)
def test_no_word_of_a_command_goes_in_silence(tmp_path: Path, name: str, key: str) -> None:
    _, read = READERS[name]
    whole, path, silent = tree(name), tmp_path / name, []

    def of(value: Any) -> str:
        path.write_text(json.dumps(value) if name.endswith(".jsonc") else yaml.safe_dump(value))
        return told(read, path)

    before = of(whole)
    for at, value in leaves(whole):
        if at[-1] != key or not isinstance(value, str):
            continue
        for word in re.finditer(r"\S+", re.sub(r"(?m)^\s*#.*$", "", value)):
            text = re.sub(r"(?m)^\s*#.*$", "", value)
            if word[0] != "\\" and of(changed(whole, at, text[: word.start()] + text[word.end() :])) == before:
                silent.append((at, word[0]))
    assert not silent


@pytest.mark.parametrize("name", LINES)
def test_no_line_goes_in_silence(tmp_path: Path, name: str) -> None:
    _, read = READERS[name]
    lines = (EXAMPLES / name).read_text().split("\n")
    path = tmp_path / name
    path.write_text("\n".join(lines))
    before = told(read, path)
    silent = []
    for number, line in enumerate(lines):
        if not line.strip() or line.startswith(SHELLS_OWN):
            continue
        path.write_text("\n".join([*lines[:number], *([""] if name == "serve.sh" else []), *lines[number + 1 :]]))
        if re.sub(r"line \d+", "", told(read, path)) == re.sub(r"line \d+", "", before):
            silent.append(line)
    assert not silent


@pytest.mark.parametrize("name", READERS)
def test_what_is_imported_passes_the_check(tmp_path: Path, name: str) -> None:
    """Nothing is amiss but files that are not there."""
    command, read = READERS[name]
    made = parse(rendered(read(EXAMPLES / name), "x"), "x")
    assert made.models
    out = tmp_path / "lmxd.yaml"
    done = lmxd("import", command, str(EXAMPLES / name), "-o", str(out))
    assert done.returncode == 0, done.stderr
    checked = lmxd("--config", str(out), "check-config")
    assert checked.returncode == 0, checked.stderr
    of_models = [line for line in checked.stderr.splitlines() if "models." in line or "error" in line]
    assert of_models
    assert all("no such file" in line.lower() or "there is no" in line for line in of_models), of_models


def test_secrets_are_counted_and_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    command = "llama-server -m /x.gguf --api-key sk-word"
    path.write_text(
        yaml.safe_dump(
            {
                "apiKeys": ["sk-one", "sk-two"],
                "peers": {"p": {"apiKey": "sk-peer"}},
                "models": {"m": {"cmd": command, "env": ["HF_TOKEN=hf-secret"]}},
            }
        )
    )
    said = told(llama_swap.read, path)
    assert not [secret for secret in ("sk-one", "sk-two", "sk-peer", "sk-word", "hf-secret") if secret in said]
    for name in ("apiKeys: ", "2 not shown", "apiKey: not shown", "--api-key (not shown)", "env: HF_TOKEN"):
        assert name in said


def test_a_secret_in_a_list_hides_itself_alone(tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    services = {
        "chat": {"image": "ggml-org/llama.cpp:server", "command": "-m /m/x.gguf"},
        "web": {"image": "web", "environment": ["BASE_URL=http://chat", "API_KEY=sk-word"]},
    }
    path.write_text(yaml.safe_dump({"services": services}))
    said = told(compose.read, path)
    assert "BASE_URL=http://chat, API_KEY: not shown" in said
    assert "sk-word" not in said


def test_what_is_said_of_several_models_is_said_once(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    models = {name: {"cmd": f"llama-server -m /{name}.gguf --offline"} for name in ("a", "b")}
    path.write_text(yaml.safe_dump({"models": models | {"c": {"cmd": "llama-server -m /c.gguf --verbose"}}}))
    left = llama_swap.read(path).left
    assert "--offline is refused: lmxd sets it (a, b)" in left
    assert "c: --verbose is refused: lmxd sets it" in left
