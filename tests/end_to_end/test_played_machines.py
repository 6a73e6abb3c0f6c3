"""What the owners of other machines read: the real programs over played devices."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from house import fake_engine, model
from play.daemon import PlayedLmxd
from play.directories import build

WIDTH = 80


def played(tmp_path: Path, name: str) -> PlayedLmxd:
    model(tmp_path, "small")
    config = {"model_dir": str(tmp_path), "engine": {"path": str(fake_engine(tmp_path))}, "models": {"small": {}}}
    return PlayedLmxd(tmp_path, config, build(name, tmp_path / "machine"))


@pytest.mark.parametrize(
    ("name", "rows", "said"),
    [
        (
            "two-one-lost",
            ["0: GPU-01a4c5e8 RTX 3090 23.8 2.0 0.4 0.0 21.4", "1: 0000:02:00.0 NVIDIA GPU"],
            "GPU is lost",
        ),
        (
            "two-one-hangs",
            ["0: GPU-01a4c5e8 RTX 3090 23.8 2.0 0.4 0.0 21.4", "1: GPU-02a4c5e8 NVIDIA GPU"],
            "the driver has not answered",
        ),
        ("mismatch", ["0: 0000:01:00.0 NVIDIA GPU 0.0 unavailable"], "reload the nvidia modules"),
        ("nouveau", ["0: 0000:01:00.0 NVIDIA GPU 0.0 unavailable"], "modprobe.blacklist=nouveau"),
        ("amd-and-nvidia", ["0: GPU-9a1b2c3d RX 7900 series 24.0", "1: GPU-0aa4c5e8 RTX 3090 23.8"], ""),
        (
            "gb10",
            ["0: GPU-01a4c5e8 GB10 121.7 0.0 0.1", "memory unified memory 121.7 6.1"],
            "draw from one",
        ),
        ("bmc", ["host RAM 64.0 3.2 0.0 0.0 60.8"], "models run in RAM, on the CPU"),
    ],
)
def test_status_of_a_machine_is_told_once_and_within_80_columns(
    tmp_path: Path, name: str, rows: list[str], said: str
) -> None:
    played_lmxd = played(tmp_path, name)
    with played_lmxd as lmxd:
        lines = lmxd.lmxctl("status").stdout.splitlines()
    table = lines[2 : 3 + len(rows)]
    assert [line for line in table if len(line.rstrip()) > WIDTH] == []
    for row, line in zip(rows, table[1:], strict=True):
        assert " ".join(line.split()).startswith(row)
    assert sum(said in line for line in lines) == 1 or not said
    assert said in played_lmxd.check_config().stderr or name == "gb10"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_call_that_never_comes_back_does_not_keep_the_daemon_from_its_end(
    tmp_path: Path, number: signal.Signals
) -> None:
    with played(tmp_path, "two-one-hangs") as lmxd:
        assert "has not answered" in lmxd.lmxctl("status").stdout
        assert lmxd.stop(number, seconds=10) == 0


def test_init_names_the_devices_that_a_configuration_can_name(tmp_path: Path) -> None:
    said = played(tmp_path, "gb10").init(tmp_path).stdout
    assert "0: NVIDIA GB10, 121.7 GiB" in said
    assert "draws from 121.7 GiB that all programs share" in said
    assert "memory:" not in said, "it is no device for a configuration"
