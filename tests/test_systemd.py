"""The unit as systemd sees it, by systemd's own tools; skipped where they are not installed."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lmxd.setup.services import Units
from lmxd.systemd import Notifier, activated_socket

UNITS = Path(__file__).parent.parent / "contrib/systemd"
FLEET = [f"lmxd-fleet-{role}.service" for role in ("broker", "node", "gateway")]
needs_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")


def unit(tmp_path: Path, name: str) -> Path:
    """A unit as ``make install`` places it, with a program that exists on this machine."""
    text = (UNITS / name).read_text()
    placed = tmp_path / name
    placed.write_text(re.sub(r"^ExecStart=.*$", "ExecStart=/bin/true", text, flags=re.MULTILINE))
    shutil.copy(UNITS / "lmxd.socket", tmp_path)
    return placed


@needs_analyze
@pytest.mark.parametrize("name", ["lmxd.service", "lmxd-gateway.service", *FLEET])
def test_the_exposure_is_at_most_2(tmp_path: Path, name: str) -> None:
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=20", str(unit(tmp_path, name))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr


@needs_analyze
def test_the_units_are_understood(tmp_path: Path) -> None:
    names = ["lmxd.service", "lmxd-gateway.service", *FLEET]
    units = [*(unit(tmp_path, name) for name in names), tmp_path / "lmxd.socket"]
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True)
    assert "lmxd" not in done.stderr, done.stderr


@needs_analyze
@pytest.mark.parametrize("place", ["plain", "with space", "100% mine"])
def test_a_users_own_units_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """As ``lmxd setup --user`` writes them, for a program at any path."""
    analyze = shutil.which("systemd-analyze")
    program = tmp_path / place / "lmxd"
    program.parent.mkdir()
    program.touch(0o755)
    monkeypatch.setattr(sys, "executable", str(program.with_name("python3")))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))  # without systemctl, and so without units that are installed already
    units = Units(user=True).files
    for change in units:
        change.path.parent.mkdir(parents=True, exist_ok=True)
        change.path.write_text(change.after)
    command = [str(analyze), "--user", "verify", "--man=no", *(str(change.path) for change in units)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "lmxd" not in done.stderr, done.stderr
    assert len(units) == 3


def test_without_a_manager_nothing_is_sent() -> None:
    notifier = Notifier({})
    notifier.ready("x")
    notifier.alive()
    assert notifier.watchdog is None
    assert activated_socket({}) is None
    assert activated_socket({"LISTEN_PID": "1", "LISTEN_FDS": "1"}) is None, "meant for another process"


def test_a_watchdog_for_another_process_is_not_ours() -> None:
    assert Notifier({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}).watchdog is None
    assert Notifier({"WATCHDOG_USEC": "1000000"}).watchdog == 1.0
    assert Notifier({"WATCHDOG_USEC": "soon"}).watchdog is None


def test_a_status_is_a_line_and_says_nothing_else_to_the_manager(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "n"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "n")})
        notifier.status("a\nMAINPID=1\x1b\udcff")
        notifier.ready("b\nSTOPPING=1")
        assert manager.recv(100) == b"STATUS=a\\nMAINPID=1\\x1b\\udcff"
        assert manager.recv(100) == b"READY=1\nSTATUS=b\\nSTOPPING=1"


def test_a_manager_that_was_busy_hears_all_in_order(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "n"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "n")})
        manager.setblocking(False)
        taken = 0
        with contextlib.suppress(BlockingIOError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.setblocking(False)
            while True:
                other.sendto(b"WATCHDOG=1", str(tmp_path / "n"))
                taken += 1
        for word in ("a", "b", "a"):
            notifier.status(word)
        notifier.reloading()
        for _ in range(100):
            notifier.alive()
        assert [manager.recv(100) for _ in range(taken)] == [b"WATCHDOG=1"] * taken
        notifier.alive()
        heard = [manager.recv(100).decode() for _ in range(5)]
        assert heard[:3] == ["STATUS=a", "STATUS=b", "STATUS=a"]
        assert heard[3].startswith("RELOADING=1\nMONOTONIC_USEC=")
        assert heard[4] == "WATCHDOG=1"


def test_engines_may_do_what_engines_of_python_must() -> None:
    """What the unit forbids by these keys, a vLLM cannot do without: compile code, share memory, ask for interfaces."""
    said = dict(line.split("=", 1) for line in (UNITS / "lmxd.service").read_text().splitlines() if "=" in line)
    assert {"MemoryDenyWriteExecute", "NoExecPaths", "PrivateIPC", "PrivateNetwork"}.isdisjoint(said)
    assert "AF_NETLINK" in said["RestrictAddressFamilies"].split()
    assert said["RemoveIPC"] == "no"
    users = (UNITS / "lmxd.sysusers").read_text()
    home = re.search(r'^u lmxd - "[^"]*" (\S+)$', users, re.MULTILINE)
    assert home is not None
    assert home[1] == f"/var/lib/{said['StateDirectory']}", "the caches that they keep at home are kept"
