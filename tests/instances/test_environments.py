"""Environments of processes of which some are stuck in the kernel: the others are read."""

from __future__ import annotations

import logging
import os
import threading

import pytest

from lmxd.instances.environments import environments


def test_those_that_are_stuck_are_passed_over_and_named(caplog: pytest.LogCaptureFixture) -> None:
    stuck, came_back = threading.Event(), []

    def read(pid: int) -> dict[str, str]:
        if pid in (2, 3, 6):
            stuck.wait()
            came_back.append(pid)
        return {"PID": str(pid)}

    try:
        with caplog.at_level(logging.WARNING):
            found = environments(range(1, 7), read, patience=0.5)
        assert found == {pid: {"PID": str(pid)} for pid in (1, 4, 5)}
        assert [record.args for record in caplog.records] == [(2,), (3,), (6,)]
        assert not came_back
    finally:
        stuck.set()


def test_a_process_that_is_gone_has_none() -> None:
    found = environments([os.getpid(), 2**22 + 1])
    assert found[os.getpid()]
    assert found[2**22 + 1] == {}


def test_of_others_only_a_few_are_waited_for() -> None:
    """Any user can have thousands that never show their environment, and would keep lmxd from starting."""
    stuck, asked = threading.Event(), []

    def read(pid: int) -> dict[str, str]:
        asked.append(pid)
        if pid > 1:
            stuck.wait()
        return {"PID": str(pid)}

    try:
        assert environments(range(1, 10_000), read, patience=0.1, most_late=3) == {1: {"PID": "1"}}
        assert asked == [1, 2, 3, 4]
    finally:
        stuck.set()
