"""Keys of older releases: accepted, without effect, and said so wherever warnings are shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from house import House

from lmxd.__main__ import main
from lmxd.config.file import parse
from lmxd.config.retired import RETIRED
from lmxd.config.schema import Config
from lmxd.errors import ConfigError

OLD = "gateway: {linger: 5, instances: 2}"


@pytest.mark.parametrize("key", RETIRED)
def test_an_old_key_is_accepted_and_said_to_have_no_effect(key: str) -> None:
    *sections, name = key.split(".")
    text = "".join(f"{'  ' * depth}{section}:\n" for depth, section in enumerate(sections))
    config = parse(f"{text}{'  ' * len(sections)}{name}: 5\n", "test")
    assert config.warnings == (f"{key} has no effect any more: {RETIRED[key]}",)
    assert config.model_dump() == Config().model_dump()


def test_what_stands_beside_it_counts() -> None:
    assert parse(OLD, "test").gateway.instances == 2
    with pytest.raises(ConfigError, match=r"gateway\.instances is 0"):
        parse("gateway: {linger: 5, instances: 0}", "test")


@pytest.mark.parametrize("text", ["", "gateway:\n", "gateway: {instances: 2}"])
def test_nothing_is_said_of_what_is_not_there(text: str) -> None:
    assert parse(text, "test").warnings == ()


def test_where_no_section_is_the_error_is_the_usual_one() -> None:
    with pytest.raises(ConfigError, match="gateway"):
        parse("gateway: 5", "test")


def test_check_config_shows_it(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"gpu: {{device: host}}\n{OLD}\n")
    done = CliRunner().invoke(main, ["check-config", "--config", str(path)])
    assert done.exit_code == 0
    assert f"{path}: warning: gateway.linger has no effect any more: " in done.output
    assert f"{path}: ok" in done.output


async def test_status_shows_it_until_it_is_taken_out(tmp_path: Path) -> None:
    here = House(tmp_path, gpu={"device": "host"}, gateway={"linger": 5})
    async with here.open() as h, h.client() as lmxd:
        assert any("gateway.linger" in warning for warning in (await lmxd.status()).warnings)
        h.write(gateway={})
        await h.daemon.reload()
        assert not any("gateway.linger" in warning for warning in (await lmxd.status()).warnings)


def test_cpu_spill_is_called_fit_now() -> None:
    config = parse("models: {a: {cpu_spill: true}, b: {cpu_spill: false}, c: {fit: auto}}", "test")
    assert [(name, profile.fit) for name, profile in config.models.items()] == [
        ("a", "auto"),
        ("b", "whole"),
        ("c", "auto"),
    ]
    assert config.warnings == tuple(
        f"models.{name}.cpu_spill is called fit now: write fit: auto, or take it out" for name in "ab"
    )
    with pytest.raises(ConfigError, match="cpu_spill"):
        parse("models: {a: {cpu_spill: 5}}", "test")
