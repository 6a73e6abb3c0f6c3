"""Whose a process is: it counts once, for the nearest root above it."""

from __future__ import annotations

import os
import subprocess
import sys

from lmxd.core.words import InstanceId
from lmxd.daemon.launching.descendants import Descendants

OUTER, INNER, TWICE = InstanceId("hold#1"), InstanceId("a#1"), InstanceId("hold#2")


async def test_a_process_below_two_roots_counts_for_the_nearest() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        found = await Descendants().of({INNER: child.pid, OUTER: os.getpid(), TWICE: child.pid})
        assert os.getpid() in found[OUTER]
        assert found[INNER] == {child.pid}
        pids = [pid for mine in found.values() for pid in mine]
        assert len(pids) == len(set(pids)), "each process counts once"
        child.communicate(b"\n")
