"""The backends of a build: read from the libraries of a program, or asked of one that does not show them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from lmxd.engines.environment import environment
from lmxd.engines.llama_cpp import backends
from lmxd.engines.llama_cpp.backends import built, listed
from lmxd.engines.llama_cpp.binary import find, probe
from lmxd.estimate.backends import Backend

LISTINGS = {
    "Available devices:\n  Vulkan0: AMD Radeon RX 7900 XTX (RADV NAVI31) (24560 MiB, 15170 MiB free)\n": "Vulkan",
    "Available devices:\n  ROCm0: AMD Radeon RX 7900 XTX (24560 MiB, 24510 MiB free)\n": "ROCm",
    "Available devices:\n  SYCL0: Intel(R) Arc(TM) B580 Graphics (11605 MiB, 11605 MiB free)\n": "SYCL",
    "Available devices:\n  CUDA0: H100 (1 MiB, 1 MiB free)\n  Vulkan0: H100 (1 MiB, 1 MiB free)\n": "CUDA Vulkan",
    "Available devices:\n  (none)\n": "",
    "Available devices:\n": "",
}


def script(directory: Path, text: str) -> Path:
    """A program of which only its answer tells what it can do. It counts how often it is asked."""
    (directory / "answer").write_text(text)
    path = directory / "wrapped-llama-server"
    path.write_text(
        f'#!/bin/sh\necho x >>{directory}/asked\ncase "$1" in --list-devices) cat {directory}/answer;; esac\n'
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def asked(directory: Path) -> int:
    return len((directory / "asked").read_text().splitlines())


def test_the_real_build_shows_its_backend_without_being_run() -> None:
    found = built(find(None), environment())
    assert found is not None
    assert found.backends == frozenset({Backend.VULKAN})
    assert Path(found.vulkan).name.startswith("libvulkan.so"), "the loader that it will open, for loaders number anew"
    assert probe(find(None)).backends == frozenset({Backend.VULKAN})


@pytest.mark.parametrize(
    ("library", "backend"),
    [
        ("libggml-cuda.so", Backend.CUDA),
        ("libggml-hip.so.0", Backend.ROCM),
        ("libggml-sycl.so", Backend.SYCL),
        ("libggml-vulkan.so.0.20.0", Backend.VULKAN),
    ],
)
def test_a_backend_that_is_loaded_when_it_runs_is_found_beside_it(
    tmp_path: Path, library: str, backend: Backend
) -> None:
    program = tmp_path / "llama-server"
    program.write_bytes(Path("/bin/ls").read_bytes())
    (tmp_path / "libggml-base.so").touch()
    (tmp_path / library).touch()
    found = built(program, {})
    assert found is not None
    assert found.backends == {backend}


def test_a_build_for_the_cpu_has_none(tmp_path: Path) -> None:
    program = tmp_path / "llama-server"
    program.write_bytes(Path("/bin/ls").read_bytes())
    (tmp_path / "libggml-cpu.so").touch()
    found = built(program, {})
    assert found is not None
    assert found.backends == frozenset()


@pytest.mark.parametrize(
    "content", [b"#!/bin/sh\n", b"", b"\x7fELF", b"\x7fELF\x02\x01" + b"\xff" * 80, b"\x7fELF\x01\x01" + b"\0" * 80]
)
def test_a_program_that_does_not_tell_is_not_guessed_at(tmp_path: Path, content: bytes) -> None:
    program = tmp_path / "llama-server"
    program.write_bytes(content)
    assert built(program, {}) is None


@pytest.mark.parametrize("text", LISTINGS)
def test_one_that_does_not_tell_lists_its_devices(tmp_path: Path, text: str) -> None:
    found = listed(script(tmp_path, text), environment(), frozenset({"GPU-a"}), None)
    assert found == frozenset(map(Backend, LISTINGS[text].split()))


def test_it_is_asked_once_for_the_same_cards(tmp_path: Path) -> None:
    program, cards = script(tmp_path, "Available devices:\n  ROCm0: x (1 MiB, 1 MiB free)\n"), frozenset({"GPU-a"})
    for _ in range(3):
        listed(program, environment(), cards, None)
    assert asked(tmp_path) == 1
    listed(program, environment(), cards | {"GPU-b"}, None)
    assert asked(tmp_path) == 2


def test_that_it_lists_none_is_not_remembered_for_its_driver_may_be_late(tmp_path: Path) -> None:
    program, cards = script(tmp_path, "Available devices:\n  (none)\n"), frozenset({"GPU-a"})
    assert listed(program, environment(), cards, None) == frozenset()
    (tmp_path / "answer").write_text("Available devices:\n  CUDA0: x (1 MiB, 1 MiB free)\n")
    assert listed(program, environment(), cards, None) == frozenset({Backend.CUDA})


def test_one_that_knows_no_such_flag_or_hangs_leaves_it_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert listed(script(tmp_path, "error: invalid argument\n"), environment(), frozenset(), None) is None
    monkeypatch.setattr(backends, "DEADLINE", 0.2)
    os.unlink(tmp_path / "answer")
    os.mkfifo(tmp_path / "answer")
    assert listed(tmp_path / "wrapped-llama-server", environment(), frozenset({"x"}), None) is None
