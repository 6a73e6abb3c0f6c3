"""Every command in the documents is run: blocks of sh, console and python, and of yaml as configuration.

A real daemon over the fake engine and a real gateway stand in for the installed ones, under the paths and the address
that the documents name. What wants root or systemd (sudo, systemctl, apt, make) meets a stand-in that checks that what
is named exists: targets of the Makefile, units, groups. tests/machine does the like for real, from the package.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
import synthetic
import yaml
from gateway_process import Gateway
from hf_directory import LLAMA, hf_directory, llama_tensors
from house import fake_engine, model
from lmxd_process import Lmxd
from waiting import wait_until

from lmxd.__main__ import main as lmxd_main
from lmxd.cli.main import main as lmxctl_main
from lmxd.config.file import parse
from lmxd.core.reasons import RefusalCode
from lmxd.errors import EXIT_STATUS, LmxdError
from lmxd.gateway.requests.failures import status_of

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted(ROOT.glob("docs/*.md"))]
FENCE = re.compile(r"^```(\w+)(?: (\w+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SOCKET, ADDRESS = "/run/lmxd/lmxd.sock", "http://127.0.0.1:8080"
MODELS: dict[str, dict[str, Any]] = {
    "llama-3.1-8b": {"estimated_memory_gb": 1, "slots": 2},
    "qwen3-30b": {"estimated_memory_gb": 12.5},
    "assistant": {"estimated_memory_gb": 0.5, "context_length": 65536, "elastic": {"start": 4096, "steps": [16384]}},
    **{name: {"estimated_memory_gb": 0.5} for name in ("planner", "coder", "researcher", "writer", "critic")},
}
STAND_INS = {
    "sudo": 'case $1 in lmxd) exec "$@" ;; esac; exec "stand-in-$1" "${@:2}"',
    "systemctl": 'exec stand-in-systemctl "$@"',
    "make": 'exec stand-in-make "$@"',
    "stand-in-make": f'make=$(PATH=/usr/bin:/bin command -v make); "$make" -n -C {ROOT} "$@" >/dev/null',
    "stand-in-systemctl": f"""
        case $1 in
        enable | restart | start | stop | status | edit | reload | daemon-reload | disable | mask | try-restart) ;;
        *) exit 64 ;;
        esac
        shift
        for unit; do
            case $unit in -*) continue ;; esac
            case $unit in *.*) ;; *) unit=$unit.service ;; esac
            [ -f {ROOT}/contrib/systemd/"$unit" ] || {{ echo "no unit $unit" >&2; exit 5; }}
        done""",
    "stand-in-usermod": f'[ "$1" = -aG ] && grep -q "^g $2 " {ROOT}/contrib/systemd/lmxd.sysusers',
    "stand-in-sudoedit": '[ "$1" = /etc/lmxd/config.yaml ]',
    "sudoedit": 'exec stand-in-sudoedit "$@"',
    "stand-in-apt": "exit 0",
    "apt": "exit 0",
    "journalctl": f'[ "$1" = -u ] && [ -f {ROOT}/contrib/systemd/"$2".service ]',
}


def blocks(*kinds: str) -> list[Any]:
    found = []
    for path in DOCUMENTS:
        for number, match in enumerate(FENCE.finditer(path.read_text()), start=1):
            if match[1] in kinds and match[2] is None:
                line = path.read_text()[: match.start()].count("\n") + 1
                found.append(pytest.param(match[3], id=f"{path.name}:{line}"))
            assert number
    return found


class Sandbox:
    """A directory with what the documents speak of, and a shell in it."""

    def __init__(self, place: Path, lmxd: Lmxd, gateway: Gateway) -> None:
        self.place, self.lmxd, self.gateway = place, lmxd, gateway
        self._yields: set[str] = set()  # some are shown more than once
        self.bin = place / "bin"
        self.bin.mkdir()
        for name, text in STAND_INS.items():
            (self.bin / name).write_text(f"#!/bin/bash\n{text}\n")
        own = f'exec {sys.executable} -m lmxd --config {gateway.config} --socket {lmxd.socket} "$@"'
        (self.bin / "lmxd").write_text(f"#!/bin/bash\n{own}\n")
        (place / "agent.py").write_text("#!/usr/bin/env python\nimport os\nassert os.environ['OPENAI_BASE_URL']\n")
        for name in ("train.py", "main.py"):
            (place / name).write_text("import os\nassert os.environ['LMXD_HOLD_BYTES']\n")
        (place / "tests").mkdir()
        (place / "tests/test_one.py").write_text("def test_one():\n    assert True\n")
        for path in (*self.bin.iterdir(), place / "agent.py"):
            path.chmod(0o755)
        hf_directory(place / "Qwen3-8B", LLAMA, llama_tensors())
        for path in (place / "llama-3.1-8b.gguf", place / "model.gguf", place / "models/llama.gguf"):
            path.parent.mkdir(exist_ok=True)
            synthetic.write(path, *synthetic.llama_8b())
        (place / "config.yaml").write_text(
            "models: {a: {cmd: 'llama-server --port ${PORT} -m /models/a.gguf -c 4096'}}"
        )

    def run(self, text: str, *, program: str = "bash", stop: bool = True) -> subprocess.CompletedProcess[str]:
        for named, real in ((SOCKET, str(self.lmxd.socket)), (ADDRESS, self.gateway.url)):
            text = text.replace(named, real)
        env = self.lmxd.ctl_env | {"LMXD_KEY": self.gateway.key, "TERM": "dumb", "USER": "me"}
        env["HOME"] = str(self.place)
        env["PATH"] = f"{self.bin}:{env['PATH']}"
        command = ["bash", *(["-e"] if stop else []), "-uc", text] if program == "bash" else [program, "-c", text]
        done = subprocess.run(command, cwd=self.place, env=env, capture_output=True, text=True, timeout=110)
        self._yields.update(re.findall(r"\by-[0-9a-f]{8}\b", done.stdout))
        return done

    def clear(self) -> None:
        with self.lmxd.client() as client:
            client.drain(now=True)
            wait_until(lambda: not client.instances().instances)
            client.drain(end=True)
            while self._yields:
                client.unyield(self._yields.pop())


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    place = tmp_path_factory.mktemp("documents")
    if int(re.findall(r"MemTotal: +(\d+)", Path("/proc/meminfo").read_text())[0]) < 18 * 2**20:
        pytest.skip("the documents' figures want a machine of 18 GiB")
    daemon = place / "daemon"
    daemon.mkdir()
    for name in MODELS:
        model(daemon, name, counts="elastic" in MODELS[name])
    config = {
        "gpu": {"device": "host", "max_memory_gb": 13},
        "engine": {"path": str(fake_engine(daemon))},
        "model_dir": str(daemon),
        "admission_control": {"queue_depth": 20},
        "models": MODELS,
    }
    with Lmxd(daemon, config) as lmxd, Gateway(lmxd) as gateway:
        inside = place / "inside"
        inside.mkdir()
        yield Sandbox(inside, lmxd, gateway)


@pytest.fixture
def clean(sandbox: Sandbox) -> Iterator[Sandbox]:
    yield sandbox
    sandbox.clear()


@pytest.mark.parametrize("text", blocks("sh"))
def test_shell_blocks_run(clean: Sandbox, text: str) -> None:
    if "socat" in text and shutil.which("socat") is None:
        pytest.skip("socat is not installed")
    done = clean.run(text)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("text", blocks("console"))
def test_console_blocks_run(clean: Sandbox, text: str) -> None:
    """Commands run; what echo prints is as it is printed there; the rest is an example of what may be seen."""
    commands = re.findall(r"^\$ (.*)$", text, re.MULTILINE)
    assert commands, "a console block shows commands after $"
    done = clean.run("\n".join(commands), stop=False)
    assert "Usage:" not in done.stderr, done.stderr
    assert "not found" not in done.stderr, done.stderr
    for expected in re.findall(r"^\$ echo \$\?\n(\d+)$", text, re.MULTILINE):
        assert expected in done.stdout.splitlines(), done.stdout + done.stderr


@pytest.mark.parametrize("text", blocks("python"))
def test_python_blocks_run(clean: Sandbox, text: str) -> None:
    needed = "" if "import OpenAI" in text else "from openai import OpenAI\n"
    text = re.sub(r'api_key="lmxd-…"', f'api_key="{clean.gateway.key}"', needed + text)
    done = clean.run(text, program=sys.executable)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("text", [*blocks("yaml"), pytest.param((ROOT / "etc/lmxd/config.yaml").read_text(), id="etc")])
def test_configurations_are_taken_by_lmxd_and_by_editors(text: str) -> None:
    parse(text, "a document")
    schema = json.loads((ROOT / "contrib/config.schema.json").read_text())
    jsonschema.validate(yaml.safe_load(text), schema)


def test_editors_find_what_lmxd_would_refuse() -> None:
    schema = json.loads((ROOT / "contrib/config.schema.json").read_text())
    for text in (
        "modles: {}",
        "models: {m: {context: 3}}",
        "idle_timeout: soon",
        "engine: {endpoint: pigeon}",
        "models: {m: {set: {model: x}}}",
    ):
        with pytest.raises(LmxdError):
            parse(text, "a document")
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(yaml.safe_load(text), schema)


def inline() -> list[Any]:
    found: dict[str, str] = {}
    for path in DOCUMENTS:
        text = FENCE.sub("", path.read_text())
        for span in re.findall(r"`((?:sudo )?lmx(?:ctl|d) [^`]+)`", text):
            found.setdefault(" ".join(span.split()), path.name)
    return [pytest.param(span, id=f"{name}: {span}") for span, name in found.items()]


@pytest.mark.parametrize("span", inline())
def test_commands_in_the_text_are_understood(span: str) -> None:
    """Command and options exist; what an argument is, or that one is left out, does not matter here."""
    words = shlex.split(span.removeprefix("sudo "))
    command: click.Command = lmxctl_main if words.pop(0) == "lmxctl" else lmxd_main
    context: click.Context | None = None
    try:
        while isinstance(command, click.Group) and words:
            context = click.Context(command, parent=context, info_name=command.name)
            if not command.parse_args(context, [*words]):
                return
            _, rest, _ = command.make_parser(context).parse_args([*words])
            name, found, words = command.resolve_command(context, rest)
            assert found is not None, name
            command = found
        command.make_context(command.name, list(words), parent=context)
    except click.MissingParameter:
        pass
    except click.exceptions.Exit:
        pass


def test_every_error_code_has_its_place() -> None:
    headings = re.findall(r"^## (\w+)$", (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(EXIT_STATUS)


def test_the_table_of_errors_is_what_lmxctl_and_the_gateway_do() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    rows = re.findall(r"^\| \[`(\w+)`\]\(#\w+\) \| (\d+) \| (\d+) \|$", text, flags=re.M)
    told = {code: (int(exits), int(status)) for code, exits, status in rows}
    assert told == {code: (exits, status_of(LmxdError(code, ""))) for code, exits in EXIT_STATUS.items()}


def test_a_refusal_has_a_status_of_its_own() -> None:
    """Not 500, which clients take for a fault of the server's."""
    assert {code for code in RefusalCode if status_of(LmxdError(code, "")) == 500} == set()


def test_what_the_stand_ins_check(sandbox: Sandbox) -> None:
    """They are no check unless they can fail."""
    for text in ("sudo systemctl start lmxdd", "make nothing-of-that-kind", "sudo usermod -aG lmxx me", "lmxd nothing"):
        assert sandbox.run(text).returncode != 0, text
