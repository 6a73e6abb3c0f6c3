"""Faults of the disk in the middle of a growth, on the real llama-server: its answers are those of a static run."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from end_to_end.test_growth_crashes import (
    ROOMY,
    STEPS,
    TIGHT,
    TURNS,
    Static,
    begun_to_die_at,
    daemon,
    nothing_is_left_behind,
    static,
    talks,
    turn,
)
from waiting import wait_until

from lmxd.engines.llama_cpp.binary import find
from lmxd.errors import LmxdError
from lmxd.rpc.client import Client

__all__ = ["static", "talks"]
FULL = 256
"""Blocks of 512 bytes that an engine may write to a file, as on a disk that has no more: some 25 tokens."""


def goes_on(lease: Any, expected: list[list[int]], *, anew: bool) -> None:
    """The rest of the conversation, of which one turn was said before."""
    for number in range(1, len(TURNS)):
        said, processed = turn(lease, expected[number], TURNS[number])
        assert said == expected[number + 1]
        if number == 1:
            assert (processed > len(expected[1])) is anew


@pytest.mark.timeout(300)
@pytest.mark.parametrize("left", [0, 1000, -1], ids=["empty", "cut", "one-byte-less"])
def test_a_file_that_was_cut_meanwhile_is_not_read(tmp_path: Path, few_layers: Path, static: Static, left: int) -> None:
    expected, _ = static
    lmxd = daemon(tmp_path, few_layers, TIGHT)
    usual = begun_to_die_at(lmxd, "stop_performed")
    with Client(lmxd.socket, patience=0) as client:
        lease = client.request("grows", hold="explicit")
        assert turn(lease, [], TURNS[0])[0] == expected[1]
        with pytest.raises(LmxdError):
            client.grow(lease.lease, ctx=STEPS[-1])
    assert lmxd.process.wait(20) == -signal.SIGKILL
    (file,) = (lmxd.directory / "lmxd.sock.d/state/moves").iterdir()
    file.write_bytes(file.read_bytes()[:left])
    lmxd.env = usual
    with lmxd, lmxd.client() as client:
        grown = client.grow(lease.lease, ctx=STEPS[-1])
        assert grown.slot is None
        goes_on(grown, expected, anew=True)
        nothing_is_left_behind(lmxd)


def limited(directory: Path) -> str:
    """A llama-server whose files are cut where its disk is full, of which it is told as of any error."""
    script = directory / "llama-server"
    script.write_text(f"#!/bin/sh\ntrap '' XFSZ\nulimit -f {FULL}\nexec {find(None)} \"$@\"\n")
    script.chmod(0o755)
    return str(script)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("gib", [ROOMY, TIGHT], ids=["beside", "in-place"])
def test_a_disk_that_becomes_full_while_a_slot_is_saved_costs_no_token(
    tmp_path: Path, few_layers: Path, static: Static, gib: float
) -> None:
    expected, _ = static
    lmxd = daemon(tmp_path, few_layers, gib)
    lmxd.configure(lmxd.config() | {"engine": {"path": limited(tmp_path)}})
    with lmxd, lmxd.client() as client:
        lease = client.request("grows", hold="explicit")
        assert turn(lease, [], TURNS[0])[0] == expected[1]
        grown = client.grow(lease.lease, ctx=STEPS[-1])
        assert grown.slot is None
        assert "slot 0 of grows#1 was not saved" in lmxd.log.read_text()
        goes_on(grown, expected, anew=True)
        wait_until(lambda: [i.instance for i in client.instances().instances] == [grown.instance])
        nothing_is_left_behind(lmxd)
