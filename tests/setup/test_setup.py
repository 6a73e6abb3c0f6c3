"""``lmxd setup``: from nothing to the first answer, and once more."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from forked import run
from house import fake_engine, model
from model_caches import in_hub
from waiting import wait_until

from lmxd.config.gateway import GatewayConfig
from lmxd.config.keys import add
from lmxd.setup.change import FileChange
from lmxd.setup.plan import SetupPlan
from lmxd.setup.services import Programs

ROOT = Path(__file__).parents[2]
NO_SYSTEMD = "#!/bin/sh\necho 'Failed to connect to bus: No medium found' >&2\nexit 1\n"
SYSTEMD = """#!/bin/sh
echo "$*" >>"$HOME/asked"
case "$*" in *cat*) exit ${UNITS:-0};; *enable*) [ -z "$REFUSED" ] || { echo "$REFUSED" >&2; exit 1; };; esac
"""


class Newcomer:
    """A user with a home of their own, without systemd, who ends what was started."""

    def __init__(self, systemctl: str = NO_SYSTEMD) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="lmxd-")  # sockets want a short path
        self.home = Path(self._place.name) / "home"
        self.bin = Path(self._place.name) / "bin"
        self.config = self.home / ".config/lmxd/config.yaml"
        self.keys = self.config.with_name("gateway.keys")
        self.bin.mkdir()
        self.home.mkdir()
        (self.bin / "systemctl").write_text(systemctl)
        (self.bin / "systemctl").chmod(0o755)
        self.env = {
            "HOME": str(self.home),
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "LANG": "C.UTF-8",
        }
        self.started: list[int] = []

    def __enter__(self) -> Newcomer:
        """One newcomer at a time: the port that is free is free for all who look at once."""
        self._turn = os.open(
            Path(tempfile.gettempdir()) / f"lmxd-newcomers-{os.getuid()}", os.O_RDWR | os.O_CREAT, 0o600
        )
        fcntl.flock(self._turn, fcntl.LOCK_EX)
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self.started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
        for pid in self.started:
            wait_until(lambda pid=pid: not _lives(pid))  # type: ignore[misc]
        os.close(self._turn)
        self._place.cleanup()

    def run(self, *arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "lmxd", *map(str, arguments)]
        done = run(words, input="", cwd=self.home, env=self.env | env, timeout=100)
        if pids := re.search(r"kill -INT ([0-9 ]+)", done.stdout):
            self.started += map(int, pids[1].split())
        return done

    def setup(self, *arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
        done = self.run("setup", "--user", "--yes", *arguments, **env)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def models(self) -> dict[str, object]:
        """The profiles of the configuration."""
        found: dict[str, object] = yaml.safe_load(self.config.read_text())["models"]
        return found


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def newcomer() -> Iterator[Newcomer]:
    """A newcomer with a fake engine on PATH."""
    with Newcomer() as made:
        fake_engine(made.bin)
        yield made


def ask(line: str, key: str, url: str) -> str:
    """The answer of a model to a line, by the gateway."""
    body = {"model": line, "messages": [{"role": "user", "content": "x"}], "max_tokens": 8}
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    asked = urllib.request.Request(f"{url}/chat/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(asked, timeout=60) as answer:
        return str(json.load(answer)["choices"][0]["message"]["content"])


def any_port(text: str) -> str:
    """A text without its ports: another program may have taken the one that was free a moment ago."""
    return re.sub(r"127\.0\.0\.1:[0-9]+", "127.0.0.1:PORT", text)


def said(done: subprocess.CompletedProcess[str], what: str) -> str:
    """The words after the name of a thing, in what setup prints at its end."""
    found = re.search(rf"^{what} +(.*)$", done.stdout, re.M)
    assert found, done.stdout + done.stderr
    return found[1]


def test_one_command_from_a_hubs_cache_to_an_answer_of_a_real_model(smollm2: Path) -> None:
    with Newcomer() as newcomer:
        hub = newcomer.home / ".cache/huggingface/hub"
        in_hub(hub, "ann/SmolLM2-GGUF", "SmolLM2.Q4_1.gguf", data=smollm2.read_bytes())
        done = newcomer.setup()
        assert "ann/SmolLM2-GGUF:Q4_1> " in done.stdout
        assert ask("ann/SmolLM2-GGUF:Q4_1", said(done, "key"), said(done, "base URL")).strip()


def test_it_may_be_run_again_and_changes_nothing(newcomer: Newcomer, tmp_path: Path) -> None:
    model(tmp_path, "small")
    first = newcomer.setup(tmp_path)
    before = {path: path.read_bytes() for path in (newcomer.config, newcomer.keys)}
    again = newcomer.setup(tmp_path)
    assert {path: path.read_bytes() for path in before} == before
    assert said(again, "base URL") == said(first, "base URL")
    assert "lmxd --user key NAME" in said(again, "new key")
    assert "kill" not in again.stdout, "what runs is not started again"
    assert "(new)" not in again.stdout


def test_a_model_that_came_later_is_added_and_served_at_once(newcomer: Newcomer, tmp_path: Path) -> None:
    model(tmp_path, "small")
    first = newcomer.setup(tmp_path)
    text = newcomer.config.read_text().replace("idle_timeout: 300", "idle_timeout: 77   # mine")
    newcomer.config.write_text(text)
    (tmp_path / "more").mkdir()
    model(tmp_path / "more", "later")
    newcomer.setup(tmp_path / "more")
    assert set(newcomer.models()) == {"small", "later"}
    kept = newcomer.config.read_text().splitlines()
    assert [line for line in text.splitlines() if line not in kept] == []
    assert ask("later", said(first, "key"), said(first, "base URL"))


def test_it_shows_all_that_it_will_write_and_nothing_is_written_without_a_yes(
    newcomer: Newcomer, tmp_path: Path
) -> None:
    model(tmp_path, "small")
    done = newcomer.run("setup", "--user", tmp_path)
    assert done.returncode == 64
    assert "say --yes" in done.stderr
    shown = any_port(done.stdout)
    assert sorted(path.name for path in newcomer.home.iterdir()) == []
    newcomer.setup(tmp_path)
    for line in any_port(newcomer.config.read_text()).splitlines():
        assert f"  {line}\n" in shown
    assert f"in {newcomer.keys}" in " ".join(shown.split())


@pytest.mark.parametrize(("typed", "written"), [(b"n\n", False), (b"\x04", False), (b"what\n", False), (b"\n", True)])
def test_a_person_is_asked(newcomer: Newcomer, tmp_path: Path, typed: bytes, written: bool) -> None:
    model(tmp_path, "small")
    outer, inner = pty.openpty()
    os.write(outer, typed)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "lmxd", "--user", "setup", str(tmp_path)],
            env=newcomer.env,
            stdin=inner,
            capture_output=True,
            text=True,
            timeout=100,
        )
    finally:
        os.close(outer)
        os.close(inner)
    if pids := re.search(r"kill -INT ([0-9 ]+)", done.stdout):
        newcomer.started += map(int, pids[1].split())
    assert done.returncode == 0, done.stderr
    assert newcomer.config.exists() == written == ("base URL" in done.stdout)
    assert ("nothing was written" in done.stderr) != written


def test_what_is_missing_is_said_with_the_way_to_get_it_and_nothing_is_written(tmp_path: Path) -> None:
    with Newcomer() as newcomer:
        (newcomer.bin / "llama-server").write_text("#!/bin/sh\necho it lacks a library >&2\nexit 127\n")
        (newcomer.bin / "llama-server").chmod(0o755)
        model(tmp_path, "small")
        engine = newcomer.run("setup", "--user", "--yes", tmp_path)
        assert (engine.returncode, "it lacks a library" in engine.stderr) == (78, True)
        (newcomer.bin / "llama-server").unlink()
        fake_engine(newcomer.bin)
        (tmp_path / "empty").mkdir()
        models = newcomer.run("setup", "--user", "--yes", tmp_path / "empty")
        assert models.returncode == 78
        assert "lmxd pull hf:ORG/REPO" in models.stderr
        assert list(newcomer.home.iterdir()) == []


def test_a_configuration_that_is_wrong_stays_as_it_is(newcomer: Newcomer, tmp_path: Path) -> None:
    model(tmp_path, "small")
    newcomer.config.parent.mkdir(parents=True)
    for text, problem in (
        ("modles: {}\n", "modles"),
        ("models: {}\ngateway: {wait: 5}\n", "by hand"),
        ("gpu: {device: host}\nengine: {path: /none/llama-server}\n", "/none/llama-server"),
    ):
        newcomer.config.write_text(text)
        done = newcomer.run("setup", "--user", "--yes", tmp_path)
        assert done.returncode == 78, done.stdout
        assert problem in done.stderr
        assert newcomer.config.read_text() == text
    assert not newcomer.keys.exists()


def test_of_several_engines_each_is_said(newcomer: Newcomer, tmp_path: Path) -> None:
    model(tmp_path, "small")
    newcomer.config.parent.mkdir(parents=True)
    newcomer.config.write_text(f"engines: {{spare: {{path: {fake_engine(tmp_path)}}}}}\nmodels: {{}}\n")
    done = newcomer.run("setup", "--user", tmp_path)
    for name, path in (("llama.cpp", newcomer.bin), ("spare", tmp_path)):
        assert re.search(rf"^(?:engine)? +{name}, llama-server .*\s.*{path}", done.stdout, re.M), done.stdout


def test_a_port_that_somebody_has_is_left_to_them(newcomer: Newcomer, tmp_path: Path) -> None:
    model(tmp_path, "small")
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):  # somebody else has it, for longer than this test takes or for less
            held.enter_context(socket.create_server(("127.0.0.1", 8080)))
        url = said(newcomer.setup(tmp_path), "base URL")
    assert re.fullmatch(r"http://127\.0\.0\.1:80(8[1-9]|9[0-9])/v1", url)


def test_a_gateway_that_cannot_start_is_told_with_its_log(newcomer: Newcomer, tmp_path: Path) -> None:
    model(tmp_path, "small")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        newcomer.config.parent.mkdir(parents=True)
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        newcomer.config.write_text(f"gateway: {{listen: '{listen}', anonymous: true}}\nmodels: {{}}\n")
        done = newcomer.run("setup", "--user", "--yes", tmp_path)
    log = newcomer.home / ".local/state/lmxd/gateway.log"
    assert done.returncode == 69
    assert str(log) in done.stderr
    assert listen in done.stderr
    assert len(newcomer.started) == 1, "the daemon runs, and how to end it is said"


def test_places_that_the_service_does_not_have_are_refused(newcomer: Newcomer, tmp_path: Path) -> None:
    for option in ("--config", "--socket"):
        done = newcomer.run(option, tmp_path / "x", "--user", "setup", "--yes")
        assert done.returncode == 64
        assert f"{option} {tmp_path / 'x'}" in done.stderr


def test_the_users_systemd_starts_it_where_there_is_one(tmp_path: Path) -> None:
    with Newcomer(SYSTEMD) as newcomer:
        fake_engine(newcomer.bin)
        model(tmp_path, "small")
        done = newcomer.run("setup", "--user", "--yes", tmp_path, UNITS="1", REFUSED="no\x1b such unit")
        assert done.returncode == 69
        assert "no\\x1b such unit" in done.stderr
        assert "journalctl --user" in done.stderr
        units = newcomer.home / ".config/systemd/user"
        assert sorted(p.name for p in units.iterdir()) == ["lmxd-gateway.service", "lmxd.service", "lmxd.socket"]
        program = Path(sys.executable).with_name("lmxd")
        assert f'ExecStart="{program}" --user\n' in (units / "lmxd.service").read_text()
        assert f'ExecStart="{program}" --user gateway\n' in (units / "lmxd-gateway.service").read_text()
        assert "@BINDIR@" not in "".join(p.read_text() for p in units.iterdir())
        asked = (newcomer.home / "asked").read_text().splitlines()
        assert asked[-2:] == [
            "--user daemon-reload",
            "--user enable --now lmxd.socket lmxd.service lmxd-gateway.service",
        ]


def test_units_that_are_installed_are_not_written_again(tmp_path: Path) -> None:
    with Newcomer(SYSTEMD) as newcomer:
        fake_engine(newcomer.bin)
        model(tmp_path, "small")
        newcomer.run("setup", "--user", "--yes", tmp_path)
        assert not (newcomer.home / ".config/systemd").exists()


def test_the_end_of_units_ends_their_models_too(tmp_path: Path) -> None:
    """A daemon that systemd stops leaves its models to the next one, and there is none."""
    with Newcomer(SYSTEMD) as newcomer:
        fake_engine(newcomer.bin)
        model(tmp_path, "small")
        done = newcomer.run("setup", "--user", "--yes", tmp_path, UNITS="1")
        drained, ended = said(done, "end").split("; ")
        assert drained.endswith("lmxctl drain --now")
        assert ended == "systemctl --user disable --now lmxd.socket lmxd.service lmxd-gateway.service"


def test_what_it_says_can_be_typed_as_it_is(newcomer: Newcomer, tmp_path: Path) -> None:
    """In the sources lmxctl is in .venv, and not on PATH."""
    model(tmp_path, "small")
    newcomer.env["PATH"] = f"{newcomer.bin}:/usr/bin:/bin"
    first = newcomer.setup(tmp_path)
    words = [word.replace("QUESTION", "x") for word in shlex.split(said(first, "ask"))]
    done = subprocess.run(words, env=newcomer.env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_what_runs_is_not_said_to_be_started(newcomer: Newcomer, tmp_path: Path) -> None:
    model(tmp_path, "small")
    assert "in the background" in said(newcomer.setup(tmp_path), "start")
    assert "run already" in said(newcomer.setup(tmp_path), "start")


def test_keys_in_the_home_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that was made would end the one that its user has."""
    monkeypatch.setenv("HOME", str(tmp_path))
    plan = SetupPlan(
        user=True,
        socket=tmp_path / "lmxd.sock",
        configuration=FileChange(tmp_path / "config.yaml", None, ""),
        gateway=GatewayConfig(listen="127.0.0.1:1", keys_file=Path("~/keys")),
        services=Programs(["--user"], tmp_path),
        amiss=[],
    )
    assert plan.lacks_key
    add(Path("~/keys"), "me", admin=False)
    assert not plan.lacks_key
