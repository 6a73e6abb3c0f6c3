"""SIGKILL of lmxd while an engine falls asleep, sleeps, or wakes: the next daemon leaves nothing behind, and serves."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest
from end_to_end.test_crashes import OF_SLEEP
from lmxd_process import Lmxd
from sleeping_vllm import DEVICES, is_alive, sleepy
from waiting import wait_until

from lmxd.errors import LmxdError
from lmxd.instances.orphans import orphans
from lmxd.rpc.client import Client

REPOSITORY = Path(__file__).parent.parent.parent
NVML = """
import os
from pathlib import Path
from sleeping_vllm import sleepy_card
_nvml = sleepy_card(Path(os.environ["FAKE_CARD"]))
def __getattr__(name):
    return getattr(_nvml, name)
"""


def daemon(directory: Path) -> Lmxd:
    (directory / "fake").mkdir()
    (directory / "fake/pynvml.py").write_text(NVML)
    paths = (directory / "fake", REPOSITORY, REPOSITORY / "tests")
    env = {"PYTHONPATH": os.pathsep.join(map(str, paths)), "FAKE_CARD": str(directory)}
    models = {name: sleepy(directory, name) for name in ("v", "w")}
    return Lmxd(directory, {"gpu": DEVICES, "models": models, "engine": {"stop_timeout": 2}}, env)


def take_turns(lmxd: Lmxd, names: str) -> None:
    """Each is asked for in turn, for as long as the daemon lives."""
    with contextlib.suppress(LmxdError), Client(lmxd.socket, patience=0) as client:
        for name in names:
            client.request(name, wait=20).release()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("place", sorted(OF_SLEEP))
def test_whatever_step_of_sleep_it_dies_at_the_next_one_serves(tmp_path: Path, place: str, nth: int) -> None:
    lmxd = daemon(tmp_path)
    usual = dict(lmxd.env)
    lmxd.env["LMXD_FAILPOINT"] = f"{place}:kill@{nth}"
    lmxd.start()
    take_turns(lmxd, "vwvwvw")
    assert lmxd.process.wait(20) == -signal.SIGKILL
    lmxd.env = usual
    with lmxd:
        take_turns(lmxd, "vw")
        with lmxd.client() as client:
            status = client.status()
            found = client.instances().instances
        assert status.broken_invariants == []
        assert {i.model for i in found if i.phase == "ready"} == {"w"}
        running = {pid for pid in orphans(tmp_path / "lmxd.sock.d") if is_alive(pid)}
        assert running == {i.pid for i in found}
    wait_until(lambda: not any(is_alive(pid) for pid in orphans(tmp_path / "lmxd.sock.d")))
