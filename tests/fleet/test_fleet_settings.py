"""users: of fleet.yaml: what is wrong in it is named with its value and a remedy, and what docs show is right."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from fleet_home import box

from lmxd.config import yaml_text
from lmxd.errors import ConfigError
from lmxd.fleet.authority.certificates import Authority
from lmxd.fleet.home import FleetHome
from lmxd.fleet.users import FleetUserConfig, user_of

DOCS = Path(__file__).parent.parent.parent / "docs/fleet.md"


def home_with(directory: Path, users: Any) -> FleetHome:
    return box(Authority.new("home"), directory / "g1", "g1", [], users=users)


@pytest.mark.parametrize(
    ("users", "said"),
    [
        ({"ada": {"wieght": 3}}, "users.ada.wieght: unknown key; did you mean weight?"),
        ({"ada": {"max_holds": 3}}, "users.ada.max_holds: unknown key; did you mean max_"),
        ({"ada": {"weight": 0}}, "users.ada.weight is 0: input should be greater than 0"),
        ({"ada": {"weight": 1001}}, "users.ada.weight is 1001: input should be less than or equal to 1000"),
        ({"ada": {"max_leases": -1}}, "users.ada.max_leases is -1: input should be greater than or equal to 0"),
        ({"ada": {"max_memory_gb": "much"}}, "users.ada.max_memory_gb is 'much': input should be a valid number"),
        ({"a b": {}}, "users.a b"),
        ({"ada": 3}, "users.ada is 3: "),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, users: Any, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _ = home_with(tmp_path, users).settings
    (problem,) = caught.value.problems
    assert problem.startswith(said)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    """A gateway that is to read it anew would serve nobody until somebody writes into a pipe."""
    home = home_with(tmp_path, {})
    home.config.unlink()
    home.config.symlink_to("/dev/null")
    with pytest.raises(ConfigError, match="cannot be read: it is not a regular file"):
        _ = FleetHome(home.config, home.state).settings


def test_a_user_without_a_part_has_that_of_all_others(tmp_path: Path) -> None:
    users = home_with(tmp_path, {"ada": {"weight": 3}, "default": {"max_leases": 2}}).settings.users
    assert user_of(users, "ada") == FleetUserConfig(weight=3)
    assert user_of(users, "bob") == FleetUserConfig(max_leases=2)
    assert user_of({}, "bob") is None


def test_the_users_of_the_documents_are_valid(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml[^\n]*\n(users:.*?)```", DOCS.read_text(), re.DOTALL)
    assert blocks
    for number, block in enumerate(blocks):
        users = json.loads(json.dumps(yaml_text.load(block)))["users"]
        assert home_with(tmp_path / str(number), users).settings.users
