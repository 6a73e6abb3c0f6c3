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
from lmxd.config.file import DEFAULT_CONFIG, load
from lmxd.config.location import user_config

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


def sent(path: str) -> bool:
    """Whether a file is sent to who builds an image: the last pattern that is its own, or of a directory, counts."""
    found = True
    lines = (ROOT / ".containerignore").read_text().splitlines()
    for line in (line for line in lines if line and not line.startswith("#")):
        pattern = line.removeprefix("!")
        names = [path, *map(str, Path(path).parents)]
        if any(fnmatch.fnmatch(name, each) for name in names for each in (pattern, pattern.removeprefix("**/"))):
            found = line.startswith("!")
    return found


@pytest.mark.parametrize("name", FILES)
def test_what_is_copied_is_there_and_sent(name: str) -> None:
    copied = [rest.split()[0] for word, rest in instructions(name) if word == "COPY" and not rest.startswith("--from")]
    assert "contrib/container/etc" in copied
    needed = ["contrib/prepare.sh", "pyproject.toml", "README.md", "LICENSE", "lmxd/__main__.py"]
    for path in [*needed, "lmxd/setup/units/lmxd.service", "contrib/container/etc/config.yaml"]:
        assert (ROOT / path).is_file(), path
        assert sent(path), path
    assert all((ROOT / path).exists() for path in copied)


def test_nothing_else_is_sent() -> None:
    """Neither caches nor what somebody keeps beside the sources: a layer keeps what it once had."""
    beside = [".env", "gateway.keys", "config.yaml", "model.gguf", "shared/notes.md", "contrib/container/.env"]
    caches = [".git/config", ".venv/bin/python", ".mypy_cache/x", ".ruff_cache/x", ".hypothesis/x", "build/lib/x"]
    made = ["lmxd/__pycache__/__main__.cpython-313.pyc", "lmxd/cli/__pycache__/main.cpython-313.pyc", "lmxd.egg-info/x"]
    assert [path for path in [*beside, *caches, *made, "tests/conftest.py", "docs/api.md"] if sent(path)] == []


@pytest.mark.parametrize("name", FILES)
def test_an_image_has_no_layer_with_the_sources(name: str) -> None:
    """They are copied in a stage before; what is removed by a later instruction stays in a layer."""
    said = instructions(name)
    last = max(place for place, (word, _) in enumerate(said) if word == "FROM")
    assert ("COPY", ". /src") in said[:last]
    assert ("COPY", ". /src") not in said[last:]
    assert ("COPY", "--from=made /opt/lmxd /opt/lmxd") in said[last:]


@pytest.mark.parametrize("name", FILES)
def test_commands_in_an_image_find_its_configuration(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """``lmxd key``, ``check-config`` and ``pull`` without an option."""
    monkeypatch.setenv("XDG_CONFIG_HOME", environment(name)["XDG_CONFIG_HOME"])
    assert user_config() == DEFAULT_CONFIG
    assert ("COPY", f"contrib/container/etc {DEFAULT_CONFIG.parent}") in instructions(name)


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
    config = load(CONTAINER / "etc/config.yaml")
    assert config.gateway.keys_file is not None
    assert config.gateway.keys_file.is_relative_to(environment("Containerfile")["XDG_STATE_HOME"])
    (models,) = (mount for mount in services("compose.yaml")["lmxd"]["volumes"] if isinstance(mount, dict))
    assert str(config.model_dir) == models["target"]
    assert models["read_only"]
    assert not models["bind"]["create_host_path"], "a mistake in MODELS makes no directory of root's"


@pytest.mark.parametrize("card", ["compose.yaml", "compose.nvidia.yaml", "compose.dri.yaml"])
def test_lmxd_and_its_gateway_share_an_image_and_their_places(card: str) -> None:
    """A gateway of another image would be pulled, and be another version."""
    found = services("compose.yaml", card)
    lmxd, gateway = found["lmxd"], found["gateway"]
    assert lmxd["image"] == gateway["image"]
    assert (CONTAINER / lmxd["build"]["context"] / lmxd["build"]["dockerfile"]).is_file()
    shared = {mount for mount in lmxd["volumes"] if isinstance(mount, str)}
    assert shared == {"run:/run/lmxd", "state:/var/lib/lmxd/state", "./etc:/etc/lmxd:ro"}
    assert shared <= set(gateway["volumes"])


def test_nothing_is_published_beyond_loopback() -> None:
    published = [port for service in services("compose.yaml").values() for port in service.get("ports", [])]
    assert len(published) == 2
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert services("compose.yaml")["lmxd"]["network_mode"] == "none"


def test_the_configuration_is_mounted_with_its_directory_and_watched() -> None:
    """A file that is mounted by itself stays what it was when an editor puts another into its place."""
    lmxd = services("compose.yaml")["lmxd"]
    done = CliRunner().invoke(main, [*lmxd["command"], "--help"])
    assert done.exit_code == 0, done.output
    assert lmxd["command"] == ["--watch-config"]
    for mount in lmxd["volumes"]:
        source = CONTAINER / str(mount).partition(":")[0]
        assert not source.is_file(), mount


@pytest.mark.parametrize("name", FILES)
def test_the_health_that_a_gateway_waits_for_is_said_in_the_compose_file(name: str) -> None:
    """An image in OCI's format, which is podman's, has no health check; one of Docker's has."""
    found = services("compose.yaml")
    assert found["gateway"]["depends_on"] == {"lmxd": {"condition": "service_healthy"}}
    health = dict(instructions(name))["HEALTHCHECK"]
    assert found["lmxd"]["healthcheck"]["test"][1:] == yaml.safe_load(health.partition("CMD ")[2])
    assert "--format docker" in (CONTAINER / name).read_text()


def test_the_first_key_is_made_before_the_gateway_starts() -> None:
    """A gateway whose keys_file is not there ends: nobody can make a key in its container."""
    for text in (CONTAINER / "compose.yaml", ROOT / "docs/containers.md"):
        lines = [line.strip("# ") for line in text.read_text().splitlines()]
        found = [line.partition("docker compose ")[2] for line in lines if "docker compose " in line]
        commands = [command.partition("  ")[0] for command in found]
        places = [commands.index(c) for c in ("exec -T lmxd lmxd key open-webui)", "up -d")]
        assert "up -d lmxd" in commands[: places[0]], text
        assert places == sorted(places), text
