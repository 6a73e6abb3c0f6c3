"""Nothing that lmxctl shows commands the terminal, whoever chose the words: a user, a process, a file, an engine."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from cli.puppet import Puppet
from click.shell_completion import get_completion_class
from click.testing import CliRunner, Result
from examples import examples
from groups import commands_of
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sources import parsed
from terminals import written

from lmxd.cli.main import main
from lmxd.cli.output import filled
from lmxd.cli.wishes import Duration, SizeWish

PACKAGE = Path(__file__).parent.parent.parent / "lmxd"
HOSTILE = "x\x1b]0;title\x07\x1b[2J\nlmxctl: all is well\r\x9b31m\x7f\u2028\u202e[bold red link=http://x]\\\t:smile:"
COMMANDS = {
    "status": "",
    "ps": "",
    "queue": "",
    "devices": "",
    "models": "",
    "version": "",
    "estimates": "",
    "reload": "",
    "top": "-c 1",
    "logs": "i",
    "why": "d",
    "plan": "m",
    "explain": "x",
    "estimate": "m",
    "forget": "m",
    "request": "m",
    "grow": "l --ctx 1",
    "release": "l",
    "touch": "l",
    "cancel": "t",
    "stop": "i",
    "pin": "i",
    "drain": "--no-wait",
    "yield": "1G",
    "completion": "bash",
}
ALONE = {"run": "m -- true", "hold": "1G -- true", "ask": "m x", "chat": "m"}
"""They set up signals, or talk to an instance that no puppet has: in a process of their own."""
OF_NODES = {"fleet"}
"""They ask nodes instead of a daemon: tests/fleet/test_seen.py."""


@pytest.fixture
def at(tmp_path: Path) -> Path:
    return tmp_path / "s"


def called(at: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["--socket", str(at), *words], catch_exceptions=False)


def harmless(said: str) -> bool:
    return all(line.isprintable() for line in said.split("\n")) and "\nlmxctl: all is well" not in said


def test_every_command_is_tried() -> None:
    assert {*COMMANDS, *ALONE, *OF_NODES} == set(commands_of(main))


@pytest.mark.parametrize("answer", ["full", "sparse", "failing"])
@pytest.mark.parametrize("name", COMMANDS)
def test_whatever_the_daemon_says_is_shown_and_does_nothing(at: Path, name: str, answer: str) -> None:
    failing = answer == "failing"
    with Puppet(at, HOSTILE, failing=failing, sparse=answer == "sparse").open():
        done = called(at, name, *COMMANDS[name].split())
        assert harmless(done.output), done.output
        assert failing == (done.exit_code == 75) or name in ("plan", "version", "completion")
        if name != "completion":
            as_json = called(at, name, *COMMANDS[name].split(), "--json")
            assert harmless(as_json.output), as_json.output
            assert as_json.output.isascii()
            assert failing == isinstance(json.loads(as_json.output).get("error"), dict) or name == "version"


@given(st.text(min_size=1))
@example(HOSTILE)
@settings(max_examples=examples(20), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_words_at_all_of_any_daemon_are_harmless(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    at = tmp_path_factory.mktemp("any") / "s"
    with Puppet(at, text.encode(errors="replace").decode()).open():
        for name in ("status", "ps", "why", "logs", "top", "plan", "explain", "queue"):
            done = called(at, name, *COMMANDS[name].split())
            assert harmless(done.output), (name, done.output)


def test_exports_for_a_shell_are_one_line_each(at: Path) -> None:
    with Puppet(at, HOSTILE + "'; reboot #").open():
        said = called(at, "request", "--shell", "m").output
    assert harmless(said)
    done = subprocess.run(["sh", "-c", f'reboot() {{ echo no; }}; {said}\necho "[$LMXD_MODEL]"'], capture_output=True)
    assert done.stdout.startswith(b"[x\\x1b]0;")
    assert b"\nno" not in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["\x1b[2J"],
        ["ps", "--\x1b[2J"],
        ["ps", "\x1b[2J\nlmxctl: all is well"],
        ["estimate", "\x1b[2J.gguf"],
        ["estimate", "./\nlmxctl: all is well\udcff.gguf"],
        ["yield", "\x1b[2J"],
        ["completion", "\x9b2J"],
        ["logs", "i", "-n", "\x1b"],
        [],
    ],
)
def test_errors_name_what_was_typed_and_it_does_nothing(tmp_path: Path, words: list[str]) -> None:
    done = called(tmp_path / "none\x1b[2J", *words)
    assert done.exit_code in (64, 78, 69)
    assert harmless(done.output), done.output


def test_an_error_that_nobody_foresaw_is_harmless_too(monkeypatch: pytest.MonkeyPatch, at: Path) -> None:
    def fail() -> None:
        raise RuntimeError(HOSTILE)

    monkeypatch.setattr("lmxd.cli.views.connect", fail)
    done = called(at, "ps")
    assert done.exit_code == 70
    assert harmless(done.output)
    assert "RuntimeError: x\\x1b]0;title" in done.output


def in_terminal(*command: str) -> bytes:
    """All that a command writes to its terminal."""
    return written(command, os.environ | {"TERM": "xterm-256color", "COLUMNS": "200", "LINES": "60"})


@pytest.mark.parametrize("name", ["ps", "top", "request", "run", "hold", "ask"])
def test_a_real_terminal_gets_only_commands_of_ours(at: Path, name: str) -> None:
    words = (COMMANDS | ALONE)[name].split()
    with Puppet(at, HOSTILE).open():
        said = in_terminal(sys.executable, "-m", "lmxd.cli.main", "--socket", str(at), name, *words)
    assert b"\\x1b]0;title" in said
    for command in ("\x1b]", "\x07", "\x9b", "\u202e", "\nlmxctl: all is well", "http://x\x1b"):
        assert command.encode() not in said, command
    assert not re.search(rb"\x1b\[2J(?!\x1b)", said) or name == "top"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_offers_nothing_that_a_shell_would_run(at: Path, shell: str) -> None:
    env = os.environ | {"LMXD_SOCKET": str(at), "_LMXCTL_COMPLETE": f"{shell}_complete"}
    env |= {"COMP_WORDS": "lmxctl stop ", "COMP_CWORD": "" if shell == "fish" else "2"}
    program = [sys.executable, "-c", "from lmxd.cli.main import main; main(prog_name='lmxctl')"]
    for text, offered in (("llama-3.1:8b#1", True), ("$(reboot)", False), ("a;b", False), (HOSTILE, False)):
        with Puppet(at, text).open():
            found = subprocess.run(program, env=env, capture_output=True, text=True, timeout=60).stdout
        at.unlink()
        assert (text in found) == offered
        assert harmless(found)


def test_cells_are_as_wide_as_they_look() -> None:
    from rich.console import Console

    console = Console(width=80, record=True)
    console.print(filled(("A", ">\x1bB"), [("\x1b[2J[red]\n", "1"), ("plain", "22")], ""))
    lines = console.export_text().split("\n")
    assert [line.split() for line in lines[:-1]] == [["A", "\\x1bB"], ["\\x1b[2J[red]\\n", "1"], ["plain", "22"]]
    assert {len(line) for line in lines[:-1]} == {len("\\x1b[2J[red]\\n  \\x1bB")}


def uses(path: Path) -> Iterator[str]:
    """Where a module writes to a terminal by itself."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in ("print", "input", "sys.stdout.write", "sys.stderr.write", "os.write") or re.search(
                r"\b(echo|secho|echo_via_pager|prompt|confirm|print_json|from_markup|Text)$|error\.show$", name
            ):
                yield f"{path.relative_to(PACKAGE)}: {name}"
        elif isinstance(node, ast.ImportFrom) and node.module in ("rich", "rich.markup"):
            yield f"{path.relative_to(PACKAGE)}: {node.module}"


def test_there_is_one_way_to_a_terminal() -> None:
    found = {use for path in PACKAGE.rglob("*.py") for use in uses(path)}
    assert found == {
        "terminal.py: click.echo",
        "terminal.py: input",
        "cli/tables.py: Text",
        "engines/llama_cpp/pretend/__main__.py: sys.stderr.write",  # to llama-server's log, which is read by lmxd alone
        "engines/llama_cpp/vulkan_devices.py: sys.stdout.write",  # JSON, to lmxd alone
        "engines/llama_cpp/level_zero_devices.py: sys.stdout.write",
    }


@pytest.mark.parametrize("call", ["say('…')", "say('…', err=True)", "show('…')", "say_over('…', last=True)"])
def test_a_terminal_of_few_letters_is_told_all(call: str) -> None:
    program = [sys.executable, "-c", f"from lmxd.terminal import *; {call}"]
    done = subprocess.run(program, env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert b"\\u2026" in done.stdout + done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_what_the_shell_takes(shell: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lmxd.cli.main", "completion", shell], capture_output=True, text=True, timeout=60
    )
    kind = get_completion_class(shell)
    assert kind is not None
    assert done.stdout.strip("\n") == kind(main, {}, "lmxctl", "_LMXCTL_COMPLETE").source().strip("\n")
    if program := shutil.which(shell):
        assert subprocess.run([program, "-n"], input=done.stdout, text=True, timeout=60).returncode == 0


@pytest.mark.parametrize("number", ["9" * 400, "²", "٣G"])
@pytest.mark.parametrize("kind", [SizeWish(), Duration()])
def test_a_number_beyond_all_sense_is_a_usage_error(kind: SizeWish | Duration, number: str) -> None:
    with pytest.raises(click.BadParameter):
        kind.convert(number, None, None)
