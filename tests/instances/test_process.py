"""Real processes: watched, ended as a group, and never left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from waiting import until

from lmxd.instances.logs import Log, head, tail
from lmxd.instances.orphans import end_orphans, left_behind, orphans
from lmxd.instances.ports import listening_port
from lmxd.instances.proc import tree
from lmxd.instances.process import Process


def spawn(*argv: str, env: dict[str, str] | None = None) -> Process:
    output = os.open(os.devnull, os.O_WRONLY)
    try:
        return Process.spawn(argv, os.environ | (env or {}), output)
    finally:
        os.close(output)


def python(code: str) -> Process:
    return spawn(sys.executable, "-S", "-c", code)


@pytest.mark.parametrize(("code", "status"), [("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 9)", -9)])
async def test_the_status_of_an_exit(code: str, status: int) -> None:
    assert await asyncio.wait_for(python(code).exited, 10) == status


async def test_it_ends_when_asked_to() -> None:
    process = spawn("sleep", "60")
    await process.end(5)
    assert process.exited.result() == -signal.SIGTERM


async def test_it_is_killed_when_it_does_not() -> None:
    process = spawn("sh", "-c", "trap '' TERM; sleep 60 & wait; sleep 60")
    await until(lambda: len(tree(process.pid)) == 2)  # its child comes after its trap
    await process.end(0.2)
    assert process.exited.result() == -signal.SIGKILL


async def test_a_group_does_not_outlive_its_leader() -> None:
    process = spawn("sh", "-c", "sleep 61 & sleep 62 & wait")
    await until(lambda: len(tree(process.pid)) == 3)
    children = tree(process.pid) - {process.pid}
    os.kill(process.pid, signal.SIGKILL)
    await asyncio.wait_for(process.exited, 30)
    for child in children:
        await until(partial(is_gone, child))


def is_gone(pid: int) -> bool:
    return not os.path.exists(f"/proc/{pid}") or "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()


async def test_ending_one_that_has_ended_does_nothing() -> None:
    process = python("pass")
    await asyncio.wait_for(process.exited, 10)
    process.signal_group(signal.SIGTERM)
    await process.end(5)


async def test_descriptors_and_zombies_do_not_add_up() -> None:
    before, left = len(os.listdir("/proc/self/fd")), zombies()
    for _ in range(50):
        await asyncio.wait_for(spawn("true").exited, 10)
    assert len(os.listdir("/proc/self/fd")) == before
    assert zombies() <= left, "what another test of this process left is not counted"


def zombies() -> set[int]:
    children = tree(os.getpid()) - {os.getpid()}
    return {c for c in children if "State:\tZ" in Path(f"/proc/{c}/status").read_text()}


async def test_a_program_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError):
        spawn("/nowhere/llama-server")


async def test_a_child_that_cannot_be_watched_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def full(pid: int, flags: int = 0) -> int:
        seen.append(pid)
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", full)
    with pytest.raises(OSError, match="Too many"):
        spawn("sleep", "60")
    assert not os.path.exists(f"/proc/{seen[0]}")


async def test_the_port_is_asked_of_the_kernel() -> None:
    process = python("import socket, time; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); time.sleep(60)")
    await until(lambda: listening_port(tree(process.pid)) is not None)
    port = listening_port(tree(process.pid))
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    await process.end(5)


async def test_orphans_of_a_home_are_found_and_ended(tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    left = subprocess.Popen(
        ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"],
        env=os.environ | {"LMXD_HOME": str(mine)},
        start_new_session=True,
    )
    kept = subprocess.Popen(["sleep", "60"], env=os.environ | {"LMXD_HOME": str(other)})
    try:
        await until(lambda: left.pid in orphans(mine))
        assert left.pid in end_orphans(left_behind(mine, tmp_path, {}, set()), grace=0.2)
        assert left.wait(30) == -signal.SIGKILL
        assert kept.poll() is None
    finally:
        kept.kill()
        kept.wait()


def test_a_log_keeps_its_tail_when_it_is_cut(tmp_path: Path) -> None:
    log = Log(tmp_path / "logs", "m#1", cap=10_000)
    output = log.open()
    for number in range(2000):
        os.write(output, b"line %d\n" % number)
    log.trim()
    os.write(output, b"after the cut\n")
    os.close(output)
    assert log.path.stat().st_size < 5_000
    assert tail(log.path, 2) == ["line 1999", "after the cut"]
    assert head(log.path)[0] == "line 0", "what it says while it loads is at the beginning"
    assert any("cut by lmxd" in line for line in head(log.path))


def test_a_log_without_line_breaks_is_cut_within_a_bound(tmp_path: Path) -> None:
    log = Log(tmp_path, "m#1", cap=10_000)
    output = log.open()
    os.write(output, b"first\n" + b"x" * 2**20)
    for _ in range(2):
        log.trim()
        assert log.path.stat().st_size < 5_000
        assert tail(log.path, 1)[0].endswith("x" * 2000)
        os.write(output, b"x" * 2**20)
    os.close(output)
    log.trim()
    assert head(log.path)[0] == "first"


def test_a_short_log_is_left_alone(tmp_path: Path) -> None:
    log = Log(tmp_path, "m#1", cap=10_000)
    os.write(output := log.open(), b"one\ntwo\n")
    os.close(output)
    log.trim()
    assert tail(log.path, 10) == ["one", "two"]
    assert tail(tmp_path / "none.log", 10) == []


def test_old_logs_are_removed(tmp_path: Path) -> None:
    for number in range(70):
        os.close(Log(tmp_path, f"m#{number}", cap=1).open())
    assert len(list(tmp_path.glob("*.log"))) <= 65


def test_a_log_does_not_follow_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "m#1.log").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"):
        Log(tmp_path, "m#1", cap=1).open()


def test_a_log_is_neither_cut_nor_read_through_a_link_or_a_pipe(tmp_path: Path) -> None:
    """Who writes into the directory could have another file cut, or shown by lmxctl logs."""
    victim = tmp_path / "victim"
    victim.write_text("precious\n" * 100)
    log = Log(tmp_path, "m#1", cap=10)
    for make in (log.path.symlink_to, log.path.hardlink_to):
        make(victim)
        log.trim()
        assert tail(log.path, 5) == head(log.path) == []
        log.path.unlink()
    os.mkfifo(log.path)
    log.trim()
    assert tail(log.path, 5) == head(log.path) == [], "nor waited for"
    assert victim.read_text() == "precious\n" * 100


def test_lines_end_with_line_feeds_alone(tmp_path: Path) -> None:
    log = Log(tmp_path, "m#1", cap=10_000)
    os.write(output := log.open(), "a\r b\x0b c\x85 d\u2028 e\nf".encode())
    os.close(output)
    assert tail(log.path, 5) == head(log.path) == ["a\r b\x0b c\x85 d\u2028 e", "f"]
