"""Engines of several processes, which hide their environment: nothing of them is left, whoever is killed when."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from forked import Forked
from gateway_process import Gateway
from lmxd_process import Lmxd
from waiting import wait_until

from lmxd.instances import proc

FAKE = Path(__file__).parent.parent / "fake_many.py"
SHM = Path("/dev/shm")
SEEDS = int(os.environ.get("LMXD_SEEDS", "5"))


@pytest.fixture
def many(tmp_path: Path) -> Iterator[Lmxd]:
    """A daemon over such an engine, of which one process has no log."""
    with Lmxd(tmp_path, config(tmp_path, "--mute")) as running:
        yield running


def config(place: Path, *words: str) -> dict[str, Any]:
    command = [sys.executable, "-S", str(FAKE), str(place), "{port}", *filter(None, words)]
    profile = {"command": command, "open": True, "estimated_memory_gb": 0.3}
    return {"gpu": {"device": "host", "max_memory_gb": 1}, "engine": {"stop_timeout": 3}, "models": {"many": profile}}


class Seen:
    """What an engine said of itself when it had started."""

    def __init__(self, place: Path) -> None:
        found = json.loads((place / "started").read_text())
        self.pids: list[int] = found["pids"]
        self.shared: str = found["shared"]
        self.server, self.tracker, *self.others = self.pids

    @property
    def left(self) -> list[int]:
        return [pid for pid in self.pids if proc.lives(pid)]

    @property
    def is_gone(self) -> bool:
        return not self.left and not (SHM / self.shared).exists()


def home(running: Lmxd) -> Path:
    return running.directory / "lmxd.sock.d"


def belongings(running: Lmxd) -> list[str]:
    return sorted(path.name for path in home(running).iterdir() if path.name not in ("lock", "log", "state"))


def killed(running: Lmxd) -> None:
    running.process.kill()
    running.process.wait()


def test_it_makes_directories_in_one_of_its_own(many: Lmxd) -> None:
    many.json("request", "many")
    (tmp,) = home(many).glob("t-*")
    assert (tmp / "a/b/file").read_text() == "made by an engine"
    assert tmp.stat().st_mode & 0o777 == 0o700
    assert len(str(tmp)) <= len(str(home(many))) + 14, "engines bind sockets there"


def test_its_environment_shows_nothing(many: Lmxd) -> None:
    """Else the other tests show nothing."""
    many.json("request", "many")
    seen = Seen(many.directory)
    assert all("LMXD_HOME" not in proc.environment(pid) for pid in (seen.server, *seen.others))


def test_an_end_leaves_nothing(many: Lmxd) -> None:
    many.json("request", "many")
    seen = Seen(many.directory)
    assert (SHM / seen.shared).exists()
    assert many.lmxctl("stop", "many#1").returncode == 0
    many.until(lambda: not many.instances())
    assert seen.is_gone
    assert belongings(many) == []


@pytest.mark.parametrize("which", range(4))
def test_nothing_outlives_a_server_that_is_gone(many: Lmxd, which: int) -> None:
    """Killed beside it: the tracker, or another process, or none."""
    many.json("request", "many")
    seen = Seen(many.directory)
    for pid in {seen.pids[which], seen.server}:
        os.kill(pid, signal.SIGKILL)
    many.until(lambda: not many.instances())
    assert seen.is_gone
    assert belongings(many) == []


def test_who_asks_while_the_rest_of_a_dead_one_ends_is_served_by_the_next(many: Lmxd) -> None:
    """Its bytes are not free before its worker is killed, five seconds later, and it is no instance to be asked."""
    (many.directory / "stubborn").touch()
    many.json("request", "many")
    with Gateway(many) as gateway:
        os.kill(Seen(many.directory).server, signal.SIGKILL)
        asked = urllib.request.Request(
            f"{gateway.url}/upstream/many/anything", headers={"Authorization": f"Bearer {gateway.key}"}
        )
        with urllib.request.urlopen(asked, timeout=60) as answer:
            assert answer.status == 200
    assert list(many.instances()) == ["many#2"]


def test_what_all_of_them_shared_is_removed_though_all_are_killed_at_once(many: Lmxd) -> None:
    many.json("request", "many")
    seen = Seen(many.directory)
    many.until(lambda: (home(many) / "many#1.shm").exists())
    for pid in seen.pids:
        os.kill(pid, signal.SIGKILL)
    many.until(lambda: not many.instances())
    assert seen.is_gone


def test_one_that_does_not_end_is_killed(tmp_path: Path) -> None:
    (tmp_path / "stubborn").touch()
    with Lmxd(tmp_path, config(tmp_path)) as running:
        running.json("request", "many")
        seen = Seen(tmp_path)
        os.kill(seen.server, signal.SIGTERM)
        running.until(lambda: not running.instances())
        assert seen.is_gone


def test_it_is_taken_over_by_the_next_daemon(many: Lmxd) -> None:
    many.json("request", "many")
    seen = Seen(many.directory)
    killed(many)
    many.start()
    assert many.instances()["many#1"].pid == seen.server
    assert seen.left == seen.pids
    assert many.lmxctl("stop", "many#1").returncode == 0
    many.until(lambda: not many.instances())
    assert seen.is_gone
    assert belongings(many) == []


Deaths = Callable[[Seen], list[int]]


@pytest.mark.parametrize(
    "deaths",
    [lambda s: [s.server], lambda s: [s.server, s.tracker], lambda s: [s.others[0]], lambda s: s.pids],
    ids=["server", "and tracker", "core", "all"],
)
def test_nothing_outlives_a_daemon_and_a_server(many: Lmxd, deaths: Deaths) -> None:
    many.json("request", "many")
    seen = Seen(many.directory)
    many.until(lambda: (home(many) / "many#1.shm").exists())
    killed(many)
    for pid in deaths(seen):
        os.kill(pid, signal.SIGKILL)
    many.start()
    if seen.server not in deaths(seen):
        many.lmxctl("stop", "many#1")
    many.until(lambda: not many.instances())
    assert seen.is_gone
    assert belongings(many) == []


@pytest.mark.parametrize("server_lives", [True, False])
def test_if_the_ledger_is_lost_it_is_taken_over_by_what_its_tracker_shows(many: Lmxd, server_lives: bool) -> None:
    many.json("request", "many")
    seen = Seen(many.directory)
    killed(many)
    for path in (home(many) / "state").glob("ledger.db*"):
        path.unlink()
    if not server_lives:
        os.kill(seen.server, signal.SIGKILL)
    many.start()
    if server_lives:
        assert many.instances()["many#1"].pid == seen.server
        assert many.lmxctl("stop", "many#1").returncode == 0
    many.until(lambda: not many.instances())
    assert seen.is_gone
    assert belongings(many) == []


MOMENTS: dict[str, Callable[[Lmxd], object]] = {
    "key": lambda running: [*home(running).glob("*.key")],
    "directory": lambda running: [*home(running).glob("t-*")],
    "process": lambda running: any(i.pid for i in running.instances().values()),
    "started": lambda running: (running.directory / "started").exists(),
    "ready": lambda running: any(i.phase == "ready" for i in running.instances().values()),
}


@pytest.mark.parametrize("seed", range(SEEDS))
def test_at_whatever_moment_they_are_killed_nothing_is_left(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    running = Lmxd(tmp_path, config(tmp_path, dice.choice(("", "--mute"))))
    known: list[Seen] = []
    for moment in dice.sample(sorted(MOMENTS), 3):
        (tmp_path / "started").unlink(missing_ok=True)
        running.start()
        asking = Forked(running.command("request", "many"), env=running.ctl_env, stdout=subprocess.DEVNULL)
        running.until(partial(MOMENTS[moment], running))
        if stops := moment == "ready" and dice.random() < 0.5:
            running.lmxctl("stop", "many#1")
        killed(running)
        asking.kill()
        asking.wait()
        if (tmp_path / "started").exists():
            known.append(Seen(tmp_path))
            for pid in dice.sample(known[-1].pids, 0 if stops else dice.randrange(1, 4)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    with running:
        running.lmxctl("drain", "--now")
        wait_until(lambda: not running.instances())
        assert all(seen.is_gone for seen in known)
        assert running.process.poll() is None
        assert of(tmp_path).keys() <= {running.process.pid}, of(tmp_path)
        assert belongings(running) == []


def of(place: Path) -> dict[int, str]:
    """Processes that were started with something in a directory, and their command lines."""
    found = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{name}/cmdline").read_text().replace("\0", " ")
            if str(place) in words and proc.lives(int(name)):
                found[int(name)] = words
    return found
