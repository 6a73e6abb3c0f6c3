"""``lmxd --user`` and ``lmxd --user gateway``: one user's daemon and gateway find each other, and nothing is named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
import yaml
from free_ports import free_address
from house import fake_engine, model
from waiting import wait_until


@pytest.fixture
def home() -> Iterator[Path]:
    """A home with a short path, as a socket's must be."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def environment(home: Path, login: bool) -> dict[str, str]:
    """A user's: after a login, or in a container, where nothing of XDG is set."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "LMXD_"))}
    xdg = {f"XDG_{name}": str(home / "x" / name.lower()) for name in ("CONFIG_HOME", "STATE_HOME", "RUNTIME_DIR")}
    if login:
        (home / "x/runtime_dir").mkdir(parents=True, mode=0o700)
    return own | {"HOME": str(home)} | (xdg if login else {})


@contextmanager
def running(env: dict[str, str], log: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "lmxd", "--user", *words], env=env, stdout=file, stderr=file, umask=0o002
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def said(env: dict[str, str], *words: str) -> str:
    done = subprocess.run([sys.executable, "-m", *words], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.parametrize("login", [True, False])
def test_a_user_s_gateway_finds_that_user_s_daemon(home: Path, login: bool) -> None:
    env = environment(home, login)
    url = f"http://{free_address()}"
    model(home, "m")
    config = {
        "gpu": {"device": "host", "max_memory_gb": 1},
        "engine": {"path": str(fake_engine(home))},
        "model_dir": str(home),
        "models": {"m": {"estimated_memory_gb": 0.3}},
        "gateway": {"listen": url.removeprefix("http://"), "keys_file": str(home / "keys")},
    }
    place = Path(env.get("XDG_CONFIG_HOME", home / ".config")) / "lmxd/config.yaml"
    place.parent.mkdir(parents=True)
    place.write_text(yaml.safe_dump(config))
    key = said(env, "lmxd", "--user", "key", "me").strip()
    log = home / "log"
    with ExitStack() as stack:
        stack.enter_context(running(env, log))
        wait_until(lambda: "listens on" in log.read_text())
        stack.enter_context(running(env, log, "gateway"))
        wait_until(lambda: is_up(url))
        client = stack.enter_context(httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}))
        assert [m["id"] for m in client.get("/v1/models").json()["data"]] == ["m"]
        question = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
        answer = client.post("/v1/chat/completions", json=question, timeout=60)
        assert answer.status_code == 200, answer.text
        assert "m#1" in said(env, "lmxd.cli.main", "ps")
