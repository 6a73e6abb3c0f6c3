"""Commands of a fleet in homes where they cannot be done: each says which file it is about, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from fleet_home import box

from lmxd.__main__ import main as lmxd
from lmxd.cli.main import main as lmxctl
from lmxd.errors import EX_CONFIG
from lmxd.fleet.authority.certificates import Authority
from lmxd.fleet.members import MemberRole

LMXD = [["token"], ["broker"], ["members"], ["remove", "node", "n1"], ["node"], ["gateway"], ["key", "me"]]
LMXCTL = [["nodes"], ["ps"], ["queue"], ["users"], ["plan", "m"], ["drain", "n1"], ["top"], ["copy", "m", "n1"]]
COMMANDS = [*((lmxd, words) for words in LMXD), *((lmxctl, words) for words in LMXCTL)]
ROLES = {"broker": "broker", "node": "node", "gateway": "gateway", "key": "gateway"}
"""The role that a command of ``lmxd fleet`` needs."""
OF_AUTHORITY = ("token", "members", "remove")
"""Commands of the box of ``lmxd fleet init``."""


def said(home: Path, command: tuple[Callable[..., object], list[str]], caplog: pytest.LogCaptureFixture) -> str:
    """What a command says, which ends with the status of a wrong configuration."""
    main, words = command
    place = ["--config", str(home / "none.yaml")] if main is lmxd else []
    caplog.clear()
    done = CliRunner().invoke(main, [*place, "fleet", "--home", str(home), *words])  # type: ignore[arg-type]
    assert done.exit_code == EX_CONFIG, (words, done.output, caplog.text)
    return f"{done.output} {caplog.text}"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[1][0])
def test_where_there_is_no_fleet(
    tmp_path: Path, command: tuple[Callable[..., object], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    text = said(tmp_path, command, caplog)
    assert "lmxd fleet init begins one, lmxd fleet join TOKEN joins one" in text
    assert f"there is no {tmp_path}/fleet.yaml: this box is in no fleet" in text


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[1][0])
def test_in_the_home_of_another_role(
    tmp_path: Path, command: tuple[Callable[..., object], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    main, [word, *_] = command
    role = ROLES.get(word, "") if main is lmxd else "operator"
    given = MemberRole.NODE if role != "node" else MemberRole.GATEWAY
    home = box(Authority.new("home"), tmp_path, "n1", [given])
    text = said(home.state, command, caplog)
    if main is lmxd and word in OF_AUTHORITY:
        assert str(home.authority) in text
        assert "the box of lmxd fleet init" in text
    else:
        assert f"{tmp_path}/{role}/cert.pem: No such file" in text
        assert f"lmxd fleet token --role {role} --name n1 on the box of lmxd fleet init" in text


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[1][0])
@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("fleet: [", "line 1", id="no YAML"),
        pytest.param("[]", "fleet.yaml", id="a list"),
        pytest.param('{"fleet": "home", "broker": []}', "broker: unknown key; did you mean brokers?", id="a key"),
        pytest.param('{"fleet": "home", "node": "N 1"}', "node is 'N 1': give a label of DNS", id="a value"),
    ],
)
def test_where_fleet_yaml_is_wrong(
    tmp_path: Path,
    command: tuple[Callable[..., object], list[str]],
    caplog: pytest.LogCaptureFixture,
    text: str,
    why: str,
) -> None:
    home = box(Authority.new("home"), tmp_path, "n1", list(MemberRole))
    home.config.write_text(text)
    found = said(tmp_path, command, caplog)
    assert f"{home.config}: " in found
    assert why in found


@pytest.mark.parametrize("words", LMXCTL, ids=lambda words: words[0])
def test_where_the_certificate_has_ended(tmp_path: Path, words: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """Programs that go on wait for another one, and say so in their log."""
    long_ago = datetime.now(UTC) - timedelta(days=91)
    home = box(Authority.new("home"), tmp_path, "n1", [MemberRole.OPERATOR], now=long_ago)
    text = said(home.state, (lmxctl, words), caplog)
    assert "the certificate of this box as operator ended on" in text
    assert "lmxd fleet token --role operator --name n1 on the box of lmxd fleet init" in text
