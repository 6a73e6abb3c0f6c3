"""The system's lmxd, run by root: its engines are another user's, and reach nothing of root's."""

from __future__ import annotations

import os
import pwd
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lmxd_process import Lmxd, get_over, post

from lmxd.accounts import SystemUser, account_warnings, engine_account
from lmxd.errors import LmxdError
from lmxd.instances import proc

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs engines as another user")
USER = "lmxd" if "lmxd" in {entry.pw_name for entry in pwd.getpwall()} else "nobody"


class SystemLmxd(Lmxd):
    """A daemon in system mode, with directories of its own."""

    def __init__(self, directory: Path, config: dict[str, Any]) -> None:
        names = {"RUNTIME_DIRECTORY": "run", "LOGS_DIRECTORY": "log", "STATE_DIRECTORY": "state"}
        super().__init__(directory, config, {name: str(directory / each) for name, each in names.items()})
        self.socket = directory / "run/lmxd.sock"

    def daemon_command(self) -> list[str]:
        return [sys.executable, "-m", "lmxd", "--config", str(self.config_path), "-v"]


@pytest.fixture
def system(smollm2: Path) -> Iterator[SystemLmxd]:
    with tempfile.TemporaryDirectory(prefix="lmxd-system-", dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        fixed = {"path": str(smollm2), "context_length": 1024}
        models = {"smollm2": fixed, "grows": fixed | {"slots": 2, "elastic": {"start": 512}}}
        config = {"gpu": {"device": "host", "max_memory_gb": 0.5}, "models": models, "engine": {"endpoint": "unix"}}
        running = SystemLmxd(Path(directory), config)
        with running:
            yield running


@as_root
def test_engines_of_root_are_another_users(system: SystemLmxd) -> None:
    """The real llama-server: it is ready, answers its holder, and is taken over by the next daemon."""
    lease = system.json("request", "smollm2")
    account = pwd.getpwnam(USER)
    pid = system.instances()["smollm2#1"].pid
    assert pid is not None
    assert proc.uids(pid) == {account.pw_uid}
    assert '"ok"' in get_over(lease["socket"], "/health", lease["api_key"])
    home = system.directory / "run/i"
    key, place = home / "smollm2#1.key", Path(lease["socket"]).parent
    assert (key.stat().st_uid, stat.S_IMODE(key.stat().st_mode)) == (account.pw_uid, 0o600)
    assert (place.parent, place.stat().st_uid, stat.S_IMODE(place.stat().st_mode)) == (home, account.pw_uid, 0o2750)
    assert home.stat().st_uid == 0, "who could write there could have root follow a link"
    env, (tmp,) = proc.environment(pid), home.glob("t-*")
    assert (env["TMPDIR"], tmp.stat().st_uid, stat.S_IMODE(tmp.stat().st_mode)) == (str(tmp), account.pw_uid, 0o700)
    writable = Path(env["HOME"]).stat()
    assert writable.st_uid == account.pw_uid, "engines that keep a cache there do not start without"
    assert any(f"its engines as {USER}" in warning for warning in system.json("status")["warnings"])
    system.process.kill()
    system.process.wait()
    system.start()
    assert system.instances()["smollm2#1"].pid == pid, "it is adopted"
    assert system.json("touch", lease["lease"])["lease"] == lease["lease"]
    assert system.stop(signal.SIGINT) == 0
    assert not proc.lives(pid)
    assert not place.exists()
    assert not key.exists()
    assert not tmp.exists()


@as_root
def test_who_engines_run_as_reaches_nothing_of_roots(system: SystemLmxd) -> None:
    system.json("request", "smollm2")
    tries = """
import os, sys
run, state, log = (os.path.join(sys.argv[1], name) for name in ("run", "state", "log"))
for what, path in ((os.unlink, f"{run}/i/smollm2#1.key"), (os.listdir, f"{run}/i"), (os.unlink, f"{run}/lmxd.sock"),
                   (os.listdir, state), (open, f"{state}/ledger.db"), (os.unlink, f"{state}/ledger.db"),
                   (os.listdir, log), (open, f"{log}/smollm2#1.log"), (os.mkdir, f"{run}/i/x"), (os.mkdir, f"{run}/x")):
    try:
        what(path)
    except PermissionError:
        continue
    print(what.__name__, path)
"""
    account = pwd.getpwnam(USER)
    done = subprocess.run(
        ["/usr/bin/env", "python3", "-c", tries, str(system.directory)], capture_output=True, text=True, timeout=20,
        user=account.pw_uid, group=account.pw_gid, extra_groups=(), env={"PATH": "/usr/bin:/bin"}, cwd="/",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@as_root
def test_links_that_an_engine_leaves_are_not_followed(system: SystemLmxd) -> None:
    """It owns its key and its socket's directory; root removes what is there, and nothing that is behind it."""
    lease = system.json("request", "smollm2")
    victim = system.directory / "victim"
    victim.mkdir()
    (victim / "precious").write_text("precious")
    place = Path(lease["socket"]).parent
    (place / "link").symlink_to(victim)
    Path(lease["socket"]).unlink()
    Path(lease["socket"]).symlink_to(victim / "precious")
    assert system.lmxctl("stop", "smollm2#1").returncode == 0
    system.until(lambda: not place.exists())
    assert (victim / "precious").read_text() == "precious"
    assert victim.stat().st_uid == 0


@as_root
def test_conversations_are_carried_between_engines_of_another_user(system: SystemLmxd) -> None:
    """They are in files that root's lmxd takes, makes fit the other's slots, and hands over."""
    body = {"prompt": "Once upon a time", "n_predict": 4, "temperature": 0, "return_tokens": True, "id_slot": 1}
    with system.client() as client:
        lease = client.request("grows")
        answer = post(lease, "/completion", body)
        prompt = post(lease, "/tokenize", {"content": body["prompt"]})["tokens"] + answer["tokens"]
        grown = client.grow(lease.lease, ctx=1024, slot=1)
        assert grown.slot == 0
        again = post(grown, "/completion", body | {"prompt": prompt, "id_slot": 0})
    assert again["timings"]["prompt_n"] == 1, "all but the last token was there"


@as_root
def test_the_user_that_engines_run_as() -> None:
    nobody = engine_account("nobody", shared=False)
    assert isinstance(nobody, SystemUser)
    assert nobody.uid == pwd.getpwnam("nobody").pw_uid
    assert engine_account(str(nobody.uid), shared=True) == nobody
    assert engine_account(None, shared=False) is None, "one's own lmxd keeps one's own user"
    usual = engine_account(None, shared=True)
    assert usual is not None
    assert usual.name == USER
    assert engine_account("root", shared=True) is None
    assert "so do its engines" in next(account_warnings(None))
    assert "engines as nobody" in next(account_warnings(nobody))
    for unknown in ("no-such-user", "4294967294", "99999999999999999999"):
        with pytest.raises(LmxdError, match=f"engine.user {unknown}: there is no such user") as caught:
            engine_account(unknown, shared=True)
        assert caught.value.code == "config"
