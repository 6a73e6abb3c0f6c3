"""The services of a fleet: which are started, and how."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lmxd.errors import LmxdError
from lmxd.fleet.members import MemberRole
from lmxd.fleet.units import start

BROKER, NODE, GATEWAY = MemberRole.BROKER, MemberRole.NODE, MemberRole.GATEWAY


class Systemctl:
    """A systemctl that notes what it is told. ``fails``: the first word of the call that does."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told_file = directory / "told"
        self.program = directory / "systemctl"
        self.say(fails="nothing")
        self.program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")

    def say(self, *, fails: str) -> None:
        text = f'#!/bin/sh\necho "$@" >>{self.told_file}\nfor word; do [ "$word" = {fails} ] && echo no >&2 && exit 1\n'
        self.program.write_text(f"{text}done\nexit 0\n")

    @property
    def told(self) -> list[str]:
        return self.told_file.read_text().splitlines()


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemctl:
    return Systemctl(tmp_path, monkeypatch)


def test_a_broker_is_started_before_a_node(systemctl: Systemctl) -> None:
    units = ["lmxd-fleet-broker.service", "lmxd-fleet-node.service"]
    assert start({NODE, GATEWAY, BROKER}, user=False) == units
    assert systemctl.told == [f"cat {' '.join(units)}", f"enable --now {' '.join(units)}"]


def test_a_users_own(systemctl: Systemctl) -> None:
    assert start({NODE}, user=True) == ["lmxd-fleet-node.service"]
    assert systemctl.told[-1] == "--user enable --now lmxd-fleet-node.service"


def test_without_units_nothing_is_started(systemctl: Systemctl) -> None:
    systemctl.say(fails="cat")
    assert start({NODE}, user=False) == []
    assert len(systemctl.told) == 1
    assert start({GATEWAY}, user=False) == []
    assert len(systemctl.told) == 1, "where a gateway listens is not known yet"


def test_one_that_does_not_start_is_told_of(systemctl: Systemctl) -> None:
    systemctl.say(fails="enable")
    with pytest.raises(LmxdError, match=r"enable --now lmxd-fleet-node\.service: no"):
        start({NODE}, user=False)


def test_a_users_own_units_are_written_where_lmxd_has_its_own(
    systemctl: Systemctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By ``lmxd setup --user``: those of a fleet are not installed with a wheel."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    systemctl.say(fails="lmxd-fleet-node.service")
    with pytest.raises(LmxdError, match="enable --now"):
        start({NODE}, user=True)
    assert systemctl.told[1:3] == ["--user cat lmxd.service", "--user daemon-reload"]
    written = tmp_path / "config/systemd/user"
    for role in MemberRole:
        unit = written / f"lmxd-fleet-{role}.service"
        assert unit.exists() == (role is not MemberRole.OPERATOR)
    assert (
        f'ExecStart="{Path(sys.executable).with_name("lmxd")}" --user fleet node\n'
        in (written / "lmxd-fleet-node.service").read_text()
    )


def test_none_are_written_where_lmxd_is_no_service(
    systemctl: Systemctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    systemctl.say(fails="cat")
    assert start({NODE}, user=True) == []
    assert not (tmp_path / "config").exists()
