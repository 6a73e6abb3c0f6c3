"""Confinement by Landlock and seccomp, tried by code that wants out: every attempt is refused, and work goes on."""

from __future__ import annotations

import json
import os
import platform
import pwd
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from lmxd.confinement import landlock, seccomp
from lmxd.confinement.confined import gaps

ATTEMPTS = Path(__file__).parent / "attempts.py"
PYTHON = "/usr/bin/python3.11"
"""For users who may not enter where ours is."""
ROOT = Path(__file__).parents[2]
ALLOWED = {"read the model", "have threads", "listen in scratch", "read a library", "have memory"}
pytestmark = pytest.mark.skipif(
    not landlock.version() or not seccomp.available() or platform.machine() != "x86_64",
    reason="this kernel cannot, and lmxctl status says so",
)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with all that a dry run could want to reach, open to everybody: no mode protects it."""
    with ExitStack() as held:
        tmp_path = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="lmxd-test-", dir="/tmp")))
        for name in ("state", "scratch"):
            (tmp_path / name).mkdir()
        for name in ("other.key", "state/ledger.db", "model.gguf"):
            (tmp_path / name).write_text("precious")
        for kind, address in (
            (socket.SOCK_STREAM, str(tmp_path / "lmxd.sock")),
            (socket.SOCK_STREAM, f"\0{tmp_path}"),
            (socket.SOCK_DGRAM, str(tmp_path / "datagrams.sock")),
        ):
            sock = held.enter_context(socket.socket(socket.AF_UNIX, kind))
            sock.bind(address)
            if kind == socket.SOCK_STREAM:
                sock.listen()
        server = held.enter_context(socket.create_server(("127.0.0.1", 0)))
        (tmp_path / "port").write_text(str(server.getsockname()[1]))
        for path in (tmp_path, *tmp_path.rglob("*")):
            path.chmod(0o777 if path.is_dir() or path.is_socket() else 0o666)
        yield tmp_path


def attempts(place: Path, confined: bool, user: str | None, *names: str) -> dict[str, str]:
    python = sys.executable if user is None else PYTHON
    command = [python, str(ATTEMPTS), str(place), "1" if confined else "0", *names]
    more: dict[str, Any] = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": ()} if user else {}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)},
        **more,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        found: dict[str, str] = json.loads(process.stdout.readline())
        status = Path(f"/proc/{process.pid}/status").read_text()
    finally:
        process.stdin.close()
        process.wait(20)
    assert (status.split("NoNewPrivs:")[1].split()[0], status.split("Seccomp:")[1].split()[0]) == (
        ("1", "2") if confined else ("0", "0")
    )
    return found


def users() -> list[str | None]:
    """Ourselves; and if we are root, somebody for whom there is a python to run."""
    return [None, "nobody"] if os.geteuid() == 0 and Path(PYTHON).exists() else [None]


@pytest.mark.parametrize("user", users())
def test_every_way_out_is_refused_and_work_goes_on(place: Path, user: str | None) -> None:
    found = attempts(place, True, user)
    assert {name: said for name, said in found.items() if said == "done" and name not in ALLOWED} == {}
    assert {name: said for name, said in found.items() if said != "done" and name in ALLOWED} == {}
    assert (place / "state/ledger.db").read_text() == "precious"
    assert sorted(path.name for path in (place / "state").iterdir()) == ["ledger.db"]
    assert [path.name for path in (place / "scratch").iterdir()] == ["s.sock"]


@pytest.mark.skipif(
    "Seccomp:\t0" not in Path("/proc/self/status").read_text(), reason="these tests are confined themselves"
)
def test_without_it_the_attempts_succeed(place: Path) -> None:
    """Or they would prove nothing."""
    names = ["read another's key", "append", "make a file", "run a program", "fork", "connect to a socket's path"]
    names += ["connect to an abstract socket", "send a datagram", "connect by TCP", "listen on a port"]
    names += ["signal the parent", "send it SIGIO", "read its environment", "make a file in memory", "unlink"]
    assert {name: said for name, said in attempts(place, False, None, *names).items() if said != "done"} == {}


@pytest.mark.skipif(not landlock.version(), reason="the kernel has no Landlock")
def test_a_kernel_that_can_has_no_gaps() -> None:
    assert list(gaps()) == []


def test_a_kernel_that_cannot_is_named_and_work_goes_on() -> None:
    """For such a kernel stands a filter that refuses the calls of Landlock and of filters."""
    code = (
        "from lmxd.confinement import seccomp, confined; seccomp.restrict(); print(*confined.gaps(), sep='\\n');"
        "confined.confine({}, memory=2**36, seconds=10); print(open('/etc/passwd').read()[:5])"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, env=env)
    first, second, work = done.stdout.splitlines()
    assert "no Landlock" in first
    assert "no system call filters" in second
    assert work == "root:"


def run(code: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, env=env)


@pytest.mark.parametrize("place", ["seccomp", "landlock"])
def test_confinement_that_fails_on_a_kernel_that_can_is_an_error(place: str) -> None:
    """What goes on would read an untrusted file without a bound that ``status`` says there is."""
    code = (
        "import ctypes; from lmxd.confinement import confined, landlock, seccomp\n"
        "class Failing:\n"
        "    def __init__(self, real): self.real = real\n"
        "    def prctl(self, what, *more):\n"
        "        if what == 22: ctypes.set_errno(12); return -1\n"
        "        return self.real.prctl(what, *more)\n"
        "    def syscall(self, number, *more):\n"
        "        if number == 446: ctypes.set_errno(12); return -1\n"
        "        return self.real.syscall(number, *more)\n"
        f"{place}._libc = Failing({place}._libc); print(*confined.gaps())\n"
        "confined.confine({}, memory=2**36, seconds=10)"
    )
    done = run(code)
    assert done.returncode == 1
    assert done.stdout == "\n"
    assert "Cannot allocate memory" in done.stderr


def test_a_lower_limit_than_ours_stays() -> None:
    """As a unit or a container has one: it cannot be raised, and need not be."""
    code = (
        "import resource; from lmxd.confinement import confined\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**35, 2**35)); resource.setrlimit(resource.RLIMIT_CPU, (5, 5))\n"
        "resource.prlimit(0, resource.RLIMIT_DATA, (2**33, 2**34))\n"
        "import os\n"
        "if os.geteuid() == 0: os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)\n"
        "confined.confine({}, memory=2**36, seconds=10)\n"
        "print(resource.getrlimit(resource.RLIMIT_AS), resource.getrlimit(resource.RLIMIT_CPU))"
    )
    done = run(code)
    assert done.stdout.strip() == f"{(2**35, 2**35)} {(5, 5)}", done.stderr
