"""Boxes that joined and never spoke: an operator sees them, for they are why there is less than was meant."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner
from fleet_process import FleetBox
from waiting import wait_until

from lmxd.cli.main import main


def said(box: FleetBox, *words: str) -> str:
    done = CliRunner().invoke(main, ["fleet", "--home", str(box.directory), *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_box_that_joined_is_seen_before_its_lmxd_runs(tmp_path: Path) -> None:
    first, other = FleetBox(tmp_path / "first"), FleetBox(tmp_path / "other")
    first.init("n1")
    with first.broker():
        other.run("join", first.run("token"), "--node", "n2")
        found = json.loads(said(first, "nodes", "--json"))["nodes"]
        assert [(node["node"], node["state"], node["card"]) for node in found] == [
            ("n1", "unheard", None), ("n2", "unheard", None)
        ]  # fmt: skip
        rows = [line.split()[:2] for line in said(first, "nodes").splitlines()[1:]]
        assert rows == [["n1", "unheard"], ["n2", "unheard"]]
        assert "0 of 2 nodes up, 2 unheard" in said(first, "top")
        first.run("remove", "node", "n2")
        wait_until(lambda: [node["node"] for node in json.loads(said(first, "nodes", "--json"))["nodes"]] == ["n1"])
