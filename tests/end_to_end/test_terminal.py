"""lmxctl in a terminal: what moves there, and what a pipe or a dumb terminal gets instead."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import subprocess
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from house import model
from lmxd_process import Lmxd

Make = Callable[..., Lmxd]
CONTROL = "\x1b["


@pytest.fixture
def running(fake: Make) -> Iterator[Lmxd]:
    with fake() as found:
        yield found


def in_terminal(lmxd: Lmxd, *words: str, term: str = "xterm-256color", interrupt_after: str = "") -> str:
    """All that a command writes to its terminal. ``interrupt_after``: Ctrl-C once this was written."""
    ours, theirs = pty.openpty()
    env = lmxd.ctl_env | {"TERM": term, "COLUMNS": "100", "LINES": "30"}
    child = subprocess.Popen(lmxd.command(*words), stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    text = b""
    try:
        while data := os.read(ours, 65536):
            text += data
            if interrupt_after and interrupt_after.encode() in text:
                child.send_signal(signal.SIGINT)
                interrupt_after = ""
    except OSError:
        pass  # EIO: the other end is closed
    os.close(ours)
    assert child.wait(20) == 0, text.decode()
    return text.decode()


def test_top_fills_the_screen_and_gives_it_back(running: Lmxd) -> None:
    assert running.lmxctl("request", "m").returncode == 0
    text = in_terminal(running, "top", "-n", "0.1", interrupt_after="m#1")
    assert "\x1b[?1049h" in text
    assert "\x1b[?1049l" in text
    assert "\x1b[?25h" in text, "the cursor is there again"


@pytest.mark.parametrize("keys", ["q", "jk\x1b[Bq", "\x03"])
def test_top_ends_at_q_and_gives_the_terminal_back_as_it_was(running: Lmxd, keys: str) -> None:
    assert running.lmxctl("request", "m").returncode == 0
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    child = subprocess.Popen(
        running.command("top", "-n", "60"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=running.ctl_env | {"TERM": "xterm"},
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # it is who Ctrl-C is for
    )
    text = b""
    while b"m#1" not in text:
        text += os.read(ours, 65536)
    for key in keys.encode().replace(b"\x1b[B", b"\x00"):
        os.write(ours, b"\x1b[B" if key == 0 else bytes([key]))
        running.until(lambda: child.poll() is not None or not select.select([theirs], [], [], 0)[0])
    assert child.wait(20) == 0
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)


def test_top_on_a_dumb_terminal_writes_text_after_text(running: Lmxd) -> None:
    text = in_terminal(running, "top", "-n", "0.1", "-c", "3", term="dumb")
    assert CONTROL not in text
    assert text.count("nobody waits") == 3


def test_top_in_a_pipe_looks_once(running: Lmxd) -> None:
    done = running.lmxctl("top")
    assert done.returncode == 0
    assert CONTROL not in done.stdout
    assert done.stdout.count("nobody waits") == 1
    shown = json.loads(running.lmxctl("top", "--json").stdout)
    assert set(shown) == {"status", "owners", "instances", "moving", "queue"}


def test_ps_goes_on_as_long_as_it_is_watched(running: Lmxd) -> None:
    assert running.lmxctl("request", "m").returncode == 0
    text = in_terminal(running, "ps", "--watch", "-n", "0.1", interrupt_after="m#1")
    assert "idle" in text or "busy" in text
    assert in_terminal(running, "ps").count("m#1") == 1


def test_a_request_shows_how_far_it_is(running: Lmxd, tmp_path: Path) -> None:
    model(tmp_path, "m", allocate_mb=200, load_seconds=1.5)
    text = in_terminal(running, "request", "m")
    assert "loading m#1" in text
    assert "%" in text
    assert "base URL" in text


def test_a_request_in_a_pipe_says_nothing_but_its_lease(running: Lmxd, tmp_path: Path) -> None:
    model(tmp_path, "m", allocate_mb=200, load_seconds=0.5)
    done = running.lmxctl("request", "m")
    assert done.stderr == ""
    assert done.stdout.startswith("l-")
    assert CONTROL not in done.stdout
