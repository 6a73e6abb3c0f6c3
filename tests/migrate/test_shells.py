"""Shells are read as shells read: quotes, lists, variables, directories and documents; and nothing is run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from migrate.test_import_commands import cmd, config, unneeded

from lmxd.errors import LmxdError
from lmxd.migrate import compose, shell_script, systemd_unit
from lmxd.migrate.entries import FoundModel, rendered
from lmxd.migrate.shell_variables import ShellVariables
from lmxd.migrate.shell_words import commands


def script(tmp_path: Path, text: str) -> FoundModel:
    path = tmp_path / "serve.sh"
    path.write_text(text)
    return shell_script.read(path)


def unit(tmp_path: Path, text: str, name: str = "llm.service") -> FoundModel:
    path = tmp_path / name
    path.write_text(text)
    return systemd_unit.read(path)


def only(found: FoundModel) -> dict[str, Any]:
    (made,) = config(found).models.values()
    return {key: value for key, value in made.model_dump(exclude_unset=True).items() if key != "aliases"}


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ('A=(-m /x.gguf\n  -c 64 # of each\n)\nA+=(--jinja)\nllama-server "${A[@]}"', {"engine_flags": ("--jinja",)}),
        ("E='--temp 0.5 --jinja'\nllama-server -m /x.gguf -c 64 $E", {"engine_flags": ("--temp", "0.5", "--jinja")}),
        ('E=""\nllama-server $E -m /x.gguf -c "64"', {}),
        ("D=/a/b\nM=${D%/*}/${D##*/}.gguf\nllama-server -c 64 -m $M", {"path": Path("/a/b.gguf")}),
        ("llama-server -m ${NONE_OF_THESE:-/x.gguf} ${NONE_OF_THESE:+--mlock} -c 64", {}),
        ("C=64\nwhile [ $# -gt 0 ]; do\n case $1 in -c) C=$2; shift 2;; esac\ndone\nllama-server -m /x.gguf -c $C", {}),
        ("if ! pgrep llama-server; then exec llama-server -m /x.gguf -c 64; fi", {}),
        ("run() {\n  env A=1 timeout -k 5 1h llama-server -m /x.gguf -c 64 >log 2>&1 &\n}\nrun", {}),
        ("(cd /srv && llama-server -m x.gguf -c 64)", {"path": Path("/srv/x.gguf")}),
        ("llama-server -m /x.gguf -c 64 --chat-template-kwargs '{\"a\": \"b c\"}'",
         {"engine_flags": ("--chat-template-kwargs", '{"a": "b c"}')}),
        ("tmux new -d -s llm 'llama-server -m /x.gguf -c 64'", {}),
        ("bash -lc 'exec llama-server -m $1 -c ${2:-8}' _ /x.gguf 64", {}),
        ("screen -dmS llm llama-server -m /x.gguf -c 64", {}),
        ("/opt/llama.cpp/server -m /x.gguf -c 64", {}),
        ("llama serve -m /x.gguf -c 64", {}),
        ('"$WHERE_IT_IS" -m /x.gguf -c 64', {}),
        ("docker run -v /srv:/m --entrypoint sh x/llama.cpp:server -c 'exec /app/llama-server -m /m/x.gguf -c 64'",
         {"path": Path("/srv/x.gguf")}),
        ("cat > /etc/llm.service <<EOF\n[Service]\nExecStart=/bin/llama-server \\\\\n -m /x.gguf -c 64\nEOF\n", {}),
    ],
)  # fmt: skip
def test_a_shell_is_understood(tmp_path: Path, text: str, settings: dict[str, Any]) -> None:
    assert only(script(tmp_path, text)) == {"path": Path("/x.gguf"), "context_length": 64} | settings


def test_a_script_knows_where_it_lies(tmp_path: Path) -> None:
    here = 'D="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"\n'
    found = script(tmp_path, f"{here}llama-server -m $D/m/x.gguf -c 64 -t $(nproc)")
    assert only(found) == {"path": tmp_path.parent / "m/x.gguf", "context_length": 64, "threads": os.cpu_count()}


@pytest.mark.parametrize(
    "text",
    [
        "echo llama-server -m /x.gguf",
        "systemctl stop llama-server",
        "[ -x /usr/bin/llama-server ] || exit 1",
        "cp llama-server /usr/local/bin",
        "/usr/local/bin/update-llama-server --now",
        "./start-llama-server.sh",
        "llama-server --version",
        "case $1 in\n llama-server|other) true;;\nesac",
        "# llama-server -m /x.gguf",
        "docker run ollama/ollama",
    ],
)
def test_who_only_speaks_of_llama_server_starts_none(tmp_path: Path, text: str) -> None:
    with pytest.raises(LmxdError, match="starts no llama-server"):
        script(tmp_path, text)


def test_what_is_exported_is_said_and_what_is_not_stays_in_the_script(tmp_path: Path) -> None:
    start = "llama-server -m /x.gguf"
    found = script(tmp_path, f"export CUDA_VISIBLE_DEVICES=1\nLLAMA_ARG_THREADS=3\n{start}")
    assert "CUDA_VISIBLE_DEVICES=1: CUDA_VISIBLE_DEVICES is refused" in "\n".join(found.left)
    assert "threads" not in only(found)
    assert only(script(tmp_path, f"set -a\nLLAMA_ARG_THREADS=3\nset +a\nB=1\n{start}"))["threads"] == 3
    (tmp_path / "llm.env").write_text("export LLAMA_ARG_THREADS=5\nM='a b.gguf' # its name\n")
    found = script(tmp_path, 'set -a; . ./llm.env; set +a\nllama-server -m "/$M"')
    assert (only(found)["path"], only(found)["threads"]) == (Path("/a b.gguf"), 5)


def test_what_nobody_knows_is_said_and_no_path(tmp_path: Path) -> None:
    found = script(tmp_path, 'source ./none.env\nllama-server -m "$1" -c $(lookup)')
    assert not config(found).models
    left = "\n".join(found.left)
    for said in ("line 1: ./none.env is not read: No such file", "path: $1 has what is not known here", "$(lookup)"):
        assert said in left


def test_a_value_that_is_set_twice_is_said(tmp_path: Path) -> None:
    found = script(tmp_path, "M=/a.gguf\nif test -e /b; then M=/x.gguf; fi\nllama-server -m $M")
    assert "line 2, M: stands where it is used, and was /a.gguf above" in unneeded(found)


def test_without_a_model_it_is_the_router(tmp_path: Path) -> None:
    for found in (script(tmp_path, "llama-server --port 80"), cmd(tmp_path, "llama-server"),
                  unit(tmp_path, "[Service]\nExecStart=llama-server\n")):  # fmt: skip
        assert not config(found).models
        assert "is the router" in "\n".join(found.left)


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        ("./serve.sh 8080", "starts a script: lmxd import script ./serve.sh reads it"),
        ("bash /opt/serve.sh", "starts a script: lmxd import script /opt/serve.sh reads it"),
        ("docker compose -f /srv/llm.yaml up chat", "starts services: lmxd import compose /srv/llm.yaml reads them"),
        ("/usr/bin/llama-swap -config /x.yaml", "starts llama-swap: lmxd import llama-swap reads its configuration"),
    ],
)
def test_the_import_that_reads_it_is_named(tmp_path: Path, command: str, hint: str) -> None:
    assert f"m: {hint}" in cmd(tmp_path, command).left
    assert f"llm: {hint}" in unit(tmp_path, f"[Service]\nExecStart={command}\n").left


def test_a_unit_s_files_of_variables_are_read(tmp_path: Path) -> None:
    (tmp_path / "llm.env").write_text('MODEL=/srv/a.gguf\nARGS="--jinja -c 64"\n')
    text = f"[Service]\nEnvironmentFile={tmp_path}/llm.env\nWorkingDirectory=/srv\nExecStart=./llama-server -m"
    found = unit(tmp_path, f"{text} ${{MODEL}} $ARGS\n", "llama.cpp.service")
    assert only(found) == {"path": Path("/srv/a.gguf"), "context_length": 64, "engine_flags": ("--jinja",)}
    assert "#  path: /srv/llama-server\n" in rendered(found, "x")
    found = unit(tmp_path, "[Service]\nEnvironmentFile=-/none.env\nExecStart=llama-server -m b.gguf\n")
    assert "llm: EnvironmentFile=/none.env: its variables are not read: No such file or directory" in found.left
    found = unit(tmp_path, "[Service]\nExecStart=llama-server -m /srv/%i.gguf\n", "llm@.service")
    assert not config(found).models
    assert "llm: path: /srv/%i.gguf is of an instance of the unit" in "\n".join(found.left)


def test_a_line_that_is_no_setting_is_said(tmp_path: Path) -> None:
    found = unit(tmp_path, "[Service]\nExecStart=/bin/llama-server\\\n  -m /a.gguf\n   -c 64 --jinja\nRestart=always\n")
    assert only(found)["path"] == Path("/a.gguf")
    assert "llm: '-c 64 --jinja' is no setting of a unit: systemd, too, passes it by" in found.left


def test_seconds_of_idleness_are_carried_over(tmp_path: Path) -> None:
    text = "llama-server -m /x.gguf --sleep-idle-seconds"
    assert only(script(tmp_path, f"{text} 600"))["idle_timeout"] == 600
    assert only(script(tmp_path, f"{text} -1"))["idle_timeout"] == 10**9
    found = cmd(tmp_path, f"{text} 600", ttl=60)
    assert only(found)["idle_timeout"] == 60
    assert "m: --sleep-idle-seconds: its ttl counts (it was 600)" in found.left


def test_a_container_of_podman_s_units(tmp_path: Path) -> None:
    text = (
        "[Container]\nImage=ghcr.io/ggml-org/llama.cpp:server\nContainerName=llm\nVolume=/srv/m:/models:ro\n"
        "Environment=LLAMA_ARG_CTX_SIZE=64\nPublishPort=8080:8080\nExec=-m /models/a.gguf --jinja\n"
    )
    found = unit(tmp_path, text, "llm.container")
    assert only(found) == {"path": Path("/srv/m/a.gguf"), "context_length": 64, "engine_flags": ("--jinja",)}
    assert "[Container] PublishPort=8080:8080" in unneeded(found)


def test_the_variables_of_compose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LMXD_DIR", "LMXD_CTX", "LMXD_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LMXD_CTX", "64")
    (tmp_path / ".env").write_text("LMXD_DIR=./weights\nLMXD_CTX=32\n")
    (tmp_path / "own.env").write_text("LLAMA_ARG_JINJA=1\nLLAMA_ARG_CTX_SIZE=1\n")
    path = tmp_path / "compose.yaml"
    path.write_text(
        "services:\n  chat:\n    image: ghcr.io/ggml-org/llama.cpp:${LMXD_TAG:-server${LMXD_KIND:+-x}}\n"
        "    env_file: own.env\n    volumes: ['${LMXD_DIR}:/m']\n    environment: {LLAMA_ARG_CTX_SIZE: '${LMXD_CTX}'}\n"
        "    entrypoint: [sh, -c]\n    command: ['M=$$HOME; exec llama-server -m /m/${LMXD_MODEL-a}.gguf']\n"
    )
    found = compose.read(path)
    assert only(found) == {"path": tmp_path / "weights/a.gguf", "context_length": 64, "engine_flags": ("--jinja",)}
    assert f"{tmp_path}/.env: its variables are read: LMXD_DIR, LMXD_CTX" in unneeded(found)


def test_paths_of_windows_are_whole_and_no_files_here(tmp_path: Path) -> None:
    text = r"""C:\llama\llama-server.exe -m "F:\my models\a.gguf" --chat-template-kwargs "{\"a\": false}" -c 64"""
    found = cmd(tmp_path, text)
    assert not config(found).models
    assert r"#    path: F:\my models\a.gguf" in rendered(found, "x")
    assert "--chat-template-kwargs, '{\"a\": false}'" in rendered(found, "x")
    assert r"m: path: F:\my models\a.gguf is of Windows: name the file here" in "\n".join(found.left)
    assert r"m: was run by C:\llama\llama-server.exe, which is of Windows" in found.left
    found = cmd(tmp_path, "docker run -v F:/models:/m ghcr.io/ggml-org/llama.cpp:server -m /m/a.gguf")
    assert "m: path: F:/models/a.gguf is of Windows" in "\n".join(found.left)


@pytest.mark.parametrize(
    "unit_of", ["$(", '"$(', "${x:-", "cd aaaa\n", "env ", "a=$a$a\n", "cat <<A\n cat <<B\n", "A+=(b)\n"]
)
def test_a_script_that_is_made_to_be_slow_is_read_at_once(tmp_path: Path, unit_of: str) -> None:
    text = f"a={'a' * 60}\n" + unit_of * (60_000 // len(unit_of))
    with pytest.raises(LmxdError, match="starts no llama-server"):
        script(tmp_path, text)


@given(st.text(alphabet="ab $\"'`(){}[]<>|&;#=\\\n~*@!-", max_size=60))
def test_any_text_at_all_has_commands_with_words(text: str) -> None:
    variables = ShellVariables(Path("/"), {"a": "b"})
    for command in commands(text):
        assert command.words
        assert all(isinstance(word, str) for raw in command.words for word in variables.words(raw))
