"""Programs of lmxd that tests fork are such as a start makes them: children of the test, with all that is their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from forked import Forked, run, servers
from lmxd_process import Lmxd
from waiting import wait_until

from lmxd.instances import proc

VERSION = [sys.executable, "-m", "lmxd.cli.main", "--version"]
KILLED = """
import sys
from pathlib import Path
from lmxd_process import Lmxd
lmxd = Lmxd(Path(sys.argv[1]), {"gpu": {"device": "host", "max_memory_gb": 1}, "models": {}}).start()
print(lmxd.process.pid, flush=True)
sys.stdin.read()
"""
WRONG = [sys.executable, "-m", "lmxd", "check-config", "--config", "none.yaml"]


def started(words: list[str], **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=60, **more)  # type: ignore[call-overload,no-any-return]


def test_it_says_and_ends_as_one_that_was_started(tmp_path: Path) -> None:
    for words in (VERSION, WRONG, [*VERSION[:3], "nothing"]):
        forked, real = run(words, cwd=tmp_path), started(words, cwd=tmp_path)
        assert (forked.returncode, forked.stdout, forked.stderr) == (real.returncode, real.stdout, real.stderr)
    assert run(WRONG).returncode == 78


def test_its_output_is_a_pipe_as_that_of_one_that_was_started(tmp_path: Path) -> None:
    """A file and a pipe are not written to in one way, and the server has files."""
    with Lmxd(tmp_path, {"gpu": {"device": "host", "max_memory_gb": 1}, "models": {}}) as lmxd:
        done = lmxd.lmxctl("top")
    assert (done.returncode, done.stderr) == (0, "")
    assert "host RAM: 1.00 GiB free" in done.stdout


def test_it_has_the_environment_and_the_place_that_it_is_given(tmp_path: Path) -> None:
    (tmp_path / "none.yaml").write_text("models: {m: {path: '${env.SOME}/x.gguf'}}\n")
    said = run(WRONG, cwd=tmp_path, env=os.environ | {"SOME": "/of/its/own"})
    assert "/of/its/own/x.gguf" in said.stderr
    assert "SOME" not in os.environ


def test_modules_of_its_path_come_first(tmp_path: Path) -> None:
    """As for a driver that is a fake: the server has imported the real one."""
    (tmp_path / "pynvml.py").write_text("raise SystemExit('another')\n")
    env = os.environ | {"PYTHONPATH": f"{tmp_path}:{':'.join(sys.path)}"}
    forked, real = run(WRONG, env=env), started(WRONG, env=env)
    assert (forked.returncode, forked.stderr) == (real.returncode, real.stderr) == (1, "another\n")


def test_it_is_a_child_of_the_test_and_dies_at_once(tmp_path: Path) -> None:
    lmxd = Lmxd(tmp_path, {"gpu": {"device": "host", "max_memory_gb": 1}, "models": {}})
    with lmxd:
        pid = lmxd.process.pid
        assert int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) == os.getpid()
        assert os.getsid(pid) == pid, "a session of its own was asked for"
        assert len(os.listdir(f"/proc/{pid}/fd")) < 40, "nothing of the server's is kept"
        assert lmxd.stop(signal.SIGKILL) == -signal.SIGKILL
        assert not proc.lives(pid)


@pytest.mark.parametrize("frozen", [False, True])
def test_it_ends_when_the_test_is_killed(tmp_path: Path, frozen: bool) -> None:
    """Nobody else could: it would hold its memory, its port, and the output that a runner of tests reads to its end."""
    command, env = [sys.executable, "-c", KILLED, str(tmp_path)], os.environ | {"PYTHONPATH": ":".join(sys.path)}
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as tests:
        assert tests.stdout is not None
        pid = int(tests.stdout.readline())
        if frozen:
            os.kill(pid, signal.SIGSTOP)
        tests.kill()
    wait_until(lambda: not proc.lives(pid))


def test_ctrl_c_ends_the_test_alone(tmp_path: Path) -> None:
    """A terminal tells the server, too, by which what ends the others may still be started."""
    run(VERSION)
    for server in servers:
        server.send_signal(signal.SIGINT)
    assert run(VERSION).returncode == 0


def test_what_only_a_start_can_have_is_started(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('started')")
    assert run(VERSION, env=os.environ | {"PYTHONPATH": f"{tmp_path}:{':'.join(sys.path)}"}).stdout[:7] == "started"
    ours, theirs = os.pipe()
    process = Forked([sys.executable, "-c", f"import os; os.write({theirs}, b'x')"], pass_fds=[theirs])
    assert process.wait(30) == 0
    assert os.read(ours, 1) == b"x"
    os.close(ours)
    os.close(theirs)
