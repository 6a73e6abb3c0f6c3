"""The backends of a build: read from the libraries of a program, or asked of one that does not show them."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from waiting import wait_until

from lmxd.engines.environment import environment
from lmxd.engines.llama_cpp import backends
from lmxd.engines.llama_cpp.asking import ask
from lmxd.engines.llama_cpp.backends import built, listed
from lmxd.engines.llama_cpp.binary import find, probe
from lmxd.engines.llama_cpp.server import LlamaServer
from lmxd.errors import LmxdError
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


def program(directory: Path, *needs: Path) -> Path:
    """A program that needs these libraries and finds them where they are."""
    path = directory / "llama-server"
    code = directory / "main.c"
    code.write_text("int main(void) { return 0; }\n")
    linked = [str(library) for library in needs]
    where = [f"-Wl,-rpath,{library.parent}" for library in needs]
    compiled(["-o", path, code, "-Wl,--no-as-needed", *linked, *where])
    return path


def library(path: Path, *needs: Path) -> Path:
    """A library that needs these."""
    code = path.with_suffix(".c")
    path.parent.mkdir(parents=True, exist_ok=True)
    code.write_text("int of_no_use;\n")
    names = [str(needed) for needed in needs]
    compiled(["-shared", "-fPIC", f"-Wl,-soname,{path.name}", "-Wl,--no-as-needed", "-o", path, code, *names])
    return path


def compiled(words: Sequence[str | Path]) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler here")
    subprocess.run([compiler, *words], check=True)


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("libggml-cuda.so", Backend.CUDA),
        ("libggml-hip.so.0", Backend.ROCM),
        ("libggml-sycl.so", Backend.SYCL),
        ("libggml-vulkan.so.0.20.0", Backend.VULKAN),
    ],
)
def test_a_backend_that_is_loaded_when_it_runs_is_found_beside_it(tmp_path: Path, name: str, backend: Backend) -> None:
    library(tmp_path / name)
    found = built(program(tmp_path, library(tmp_path / "libggml-base.so")), {})
    assert found is not None
    assert found.backends == {backend}


def test_a_backend_beside_a_program_that_was_linked_to_all_it_uses_is_an_older_builds(tmp_path: Path) -> None:
    library(tmp_path / "libggml-cuda.so.0")
    found = built(program(tmp_path, library(tmp_path / "libggml-cpu.so"), library(tmp_path / "libggml-base.so")), {})
    assert found is not None
    assert found.backends == frozenset()


@pytest.mark.parametrize(("missing", "backends"), [("libcudart.so.12", set()), ("libcuda.so.1", {Backend.CUDA})])
def test_a_backend_that_cannot_be_loaded_is_none_unless_only_the_driver_is_missing(
    tmp_path: Path, missing: str, backends: set[Backend]
) -> None:
    gone = library(tmp_path / missing)
    library(tmp_path / "ggml/backends0/libggml-cuda.so", gone)
    gone.unlink()
    found = built(program(tmp_path, library(tmp_path / "libggml-base.so")), {})
    assert found is not None
    assert found.backends == backends


def test_a_backend_that_is_installed_later_is_found_when_the_engine_is_looked_at_again(tmp_path: Path) -> None:
    engine = LlamaServer(program(tmp_path, library(tmp_path / "libggml-base.so")))
    assert engine.backends(frozenset({"GPU-a"})) == frozenset()
    library(tmp_path / "ggml/backends0/libggml-vulkan.so")
    assert engine.backends(frozenset({"GPU-a"})) == frozenset({Backend.VULKAN})
    assert engine.binary().backends == frozenset({Backend.VULKAN}), "launches are for what was found"


def test_an_engine_that_lacks_a_library_is_not_taken_for_one_that_knows_no_flags(tmp_path: Path) -> None:
    gone = library(tmp_path / "libggml-vulkan.so.0")
    path = program(tmp_path, gone)
    gone.unlink()
    with pytest.raises(LmxdError, match=r"does not run: .*libggml-vulkan\.so\.0") as caught:
        probe(path)
    assert caught.value.code == "engine_missing"
    library(tmp_path / "libggml-vulkan.so.0")
    assert probe(path).backends == frozenset({Backend.VULKAN})


def test_a_build_for_the_cpu_has_none(tmp_path: Path) -> None:
    found = built(program(tmp_path, library(tmp_path / "libggml-cpu.so")), {})
    assert found is not None
    assert found.backends == frozenset()


@pytest.mark.parametrize(
    "content", [b"#!/bin/sh\n", b"", b"\x7fELF", b"\x7fELF\x02\x01" + b"\xff" * 80, b"\x7fELF\x01\x01" + b"\0" * 80]
)
def test_a_program_that_does_not_tell_is_not_guessed_at(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "llama-server"
    path.write_bytes(content)
    assert built(path, {}) is None


@pytest.mark.parametrize("text", LISTINGS)
def test_one_that_does_not_tell_lists_its_devices(tmp_path: Path, text: str) -> None:
    found = listed(script(tmp_path, text), environment(), frozenset({"GPU-a"}), None)
    assert found == frozenset(map(Backend, LISTINGS[text].split()))


def test_it_is_asked_once_for_the_same_cards(tmp_path: Path) -> None:
    engine, cards = script(tmp_path, "Available devices:\n  ROCm0: x (1 MiB, 1 MiB free)\n"), frozenset({"GPU-a"})
    for _ in range(3):
        listed(engine, environment(), cards, None)
    assert asked(tmp_path) == 1
    listed(engine, environment(), cards | {"GPU-b"}, None)
    assert asked(tmp_path) == 2


def test_that_it_lists_none_is_not_remembered_for_its_driver_may_be_late(tmp_path: Path) -> None:
    engine, cards = script(tmp_path, "Available devices:\n  (none)\n"), frozenset({"GPU-a"})
    assert listed(engine, environment(), cards, None) == frozenset()
    (tmp_path / "answer").write_text("Available devices:\n  CUDA0: x (1 MiB, 1 MiB free)\n")
    assert listed(engine, environment(), cards, None) == frozenset({Backend.CUDA})


def test_one_that_knows_no_such_flag_or_hangs_leaves_it_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert listed(script(tmp_path, "error: invalid argument\n"), environment(), frozenset(), None) is None
    monkeypatch.setattr(backends, "DEADLINE", 0.2)
    os.unlink(tmp_path / "answer")
    os.mkfifo(tmp_path / "answer")
    assert listed(tmp_path / "wrapped-llama-server", environment(), frozenset({"x"}), None) is None


def test_a_script_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    engine, end = tmp_path / "llama-server", tmp_path / "end"
    os.mkfifo(end)
    engine.write_text(f"#!/bin/sh\ncat {end}\nexit 0\n")
    engine.chmod(0o755)
    with pytest.raises(subprocess.TimeoutExpired):
        ask((engine,), environment(), 0.3)
    wait_until(lambda: not reads(end))


def reads(fifo: Path) -> bool:
    """Whether anybody has a FIFO open to read it."""
    try:
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True
