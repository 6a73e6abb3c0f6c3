"""contrib/container: what images and compose files say of each other, of lmxd and of these sources."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from lmxd.__main__ import main
from lmxd.config.file import load

ROOT = Path(__file__).parent.parent
CONTAINER = ROOT / "contrib/container"
FILES = ["Containerfile", "Containerfile.nvidia"]


def instructions(name: str) -> list[tuple[str, str]]:
    """Each instruction of a Containerfile with its words, on one line."""
    text = (CONTAINER / name).read_text().replace("\\\n", " ")
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in text.splitlines()) if word.isupper()]


def environment(name: str) -> dict[str, str]:
    given = " ".join(rest for word, rest in instructions(name) if word == "ENV")
    return dict(re.findall(r"(\w+)=(\S+)", given))


def services(*names: str) -> dict[str, dict[str, Any]]:
    """The services of compose files, the later ones over the earlier ones, key by key."""
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        for service, keys in yaml.safe_load((CONTAINER / name).read_text())["services"].items():
            found.setdefault(service, {}).update(keys)
    return found


@pytest.mark.parametrize("name", FILES)
def test_what_is_copied_is_there_and_not_ignored(name: str) -> None:
    copied = [rest.split()[0] for word, rest in instructions(name) if word == "COPY" and not rest.startswith("--from")]
    assert "contrib/container/config.yaml" in copied
    ignored = (ROOT / ".containerignore").read_text().split()
    for path in [*copied, "contrib/prepare.sh", "pyproject.toml", "lmxd/__main__.py"]:
        assert (ROOT / path).exists(), path
        assert not any(fnmatch.fnmatch(part, pattern) for part in Path(path).parts for pattern in ignored), path


@pytest.mark.parametrize("name", FILES)
def test_an_image_keeps_its_sockets_and_its_state_in_volumes(name: str) -> None:
    said, env = dict(instructions(name)), environment(name)
    volumes = yaml.safe_load(said["VOLUME"])
    assert env["XDG_RUNTIME_DIR"] in volumes
    assert env["XDG_STATE_HOME"] in volumes
    assert env["LMXD_SOCKET"] == env["XDG_RUNTIME_DIR"] + "/lmxd.sock"
    assert said["USER"] == "lmxd", "engines run as the same user: not root"
    assert said["STOPSIGNAL"] == "SIGINT", "models end with the container"


@pytest.mark.parametrize("name", FILES)
def test_what_an_image_starts_is_a_command_of_lmxd(name: str) -> None:
    words = yaml.safe_load(dict(instructions(name))["ENTRYPOINT"])
    assert words[0] == "lmxd"
    done = CliRunner().invoke(main, [*words[1:], "gateway", "--help"])
    assert done.exit_code == 0, done.output


def test_the_configuration_in_the_image_is_for_the_places_in_it() -> None:
    config = load(CONTAINER / "config.yaml")
    assert config.gateway.keys_file is not None
    assert config.gateway.keys_file.is_relative_to(environment("Containerfile")["XDG_STATE_HOME"])
    mounts = [mount.rsplit(":", 2) for mount in services("compose.yaml")["lmxd"]["volumes"]]
    (models,) = (mount[-2] for mount in mounts if mount[-1] == "ro" and "MODELS" in mount[0])
    assert str(config.model_dir) == models


@pytest.mark.parametrize("card", ["compose.yaml", "compose.nvidia.yaml", "compose.dri.yaml"])
def test_lmxd_and_its_gateway_share_an_image_and_their_places(card: str) -> None:
    """A gateway of another image would be pulled, and be another version."""
    found = services("compose.yaml", card)
    lmxd, gateway = found["lmxd"], found["gateway"]
    assert lmxd["image"] == gateway["image"]
    assert (CONTAINER / lmxd["build"]["context"] / lmxd["build"]["dockerfile"]).is_file()
    shared = {mount for mount in lmxd["volumes"] if mount.startswith(("run:", "state:", "./config.yaml:"))}
    assert len(shared) == 3
    assert shared <= set(gateway["volumes"])


def test_nothing_is_published_beyond_loopback() -> None:
    published = [port for service in services("compose.yaml").values() for port in service.get("ports", [])]
    assert len(published) == 2
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert services("compose.yaml")["lmxd"]["network_mode"] == "none"
