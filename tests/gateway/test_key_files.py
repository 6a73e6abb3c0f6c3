"""Files of keys that every user of the machine can get at are told of, before the start and at it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lmxd.config.gateway import GatewayConfig
from lmxd.config.key_files import exposures

BOTH = ("tls_cert", "tls_key")


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A directory that everybody may enter."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


def found(directory: Path, modes: dict[str, int]) -> list[str]:
    """The warnings for files of these modes, named by their keys."""
    for name, mode in modes.items():
        (directory / name).write_text("")
        (directory / name).chmod(mode)
    return list(exposures(GatewayConfig.model_validate({name: str(directory / name) for name in modes})))


@pytest.mark.parametrize(
    ("modes", "named"),
    [
        ({"tls_cert": 0o644, "tls_key": 0o644}, "tls_key"),
        ({"tls_cert": 0o644, "tls_key": 0o604}, "tls_key"),
        ({"tls_cert": 0o644, "tls_key": 0o640}, None),
        ({"tls_cert": 0o644, "tls_key": 0o600}, None),
        ({"tls_cert": 0o644}, "tls_cert"),
        ({"tls_cert": 0o640}, None),
        ({"keys_file": 0o644}, None),
        ({"keys_file": 0o646}, "keys_file"),
        ({}, None),
    ],
)
def test_a_key_that_everybody_can_read_or_write_is_told(
    open_to_all: Path, modes: dict[str, int], named: str | None
) -> None:
    warnings = found(open_to_all, modes)
    assert len(warnings) == (named is not None)
    for warning in warnings:
        assert warning.startswith(f"gateway.{named} {open_to_all / str(named)}: every user of this machine can ")
        assert "chmod o-" in warning


def test_a_directory_that_is_shut_keeps_a_key(open_to_all: Path) -> None:
    modes = {"tls_cert": 0o644, "tls_key": 0o644}
    assert found(open_to_all, modes)
    open_to_all.chmod(0o750)
    assert not found(open_to_all, modes)


def test_a_link_is_as_open_as_the_file_that_it_leads_to(open_to_all: Path) -> None:
    (open_to_all / "private").mkdir(mode=0o700)
    (open_to_all / "private/key.pem").write_text("")
    (open_to_all / "private/key.pem").chmod(0o644)
    (open_to_all / "key.pem").symlink_to("private/key.pem")
    config = GatewayConfig(tls_cert=open_to_all / "cert.pem", tls_key=open_to_all / "key.pem")
    assert not list(exposures(config))
    (open_to_all / "private").chmod(0o711)
    assert len(list(exposures(config))) == 1
