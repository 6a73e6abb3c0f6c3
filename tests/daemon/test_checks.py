"""check-config says all that a configuration names and that is not there, before anything is started."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from devices.fake_nvml import FakeNvml
from house import card, fake_engine, model

from lmxd.__main__ import main
from lmxd.config.file import parse
from lmxd.daemon.checks import Findings, check, obstacles_of
from lmxd.files import let_in


def no_gpu() -> FakeNvml:
    nvml = FakeNvml()
    nvml.init_fault = 12
    return nvml


def findings(directory: Path, nvml: Any = None, **sections: Any) -> Findings:
    whole = {"model_dir": str(directory), "engine": {"path": str(fake_engine(directory))}} | sections
    return check(parse(yaml.safe_dump(whole), "test"), nvml or no_gpu(), alone=True)


def test_a_configuration_of_what_is_there_has_no_findings(tmp_path: Path) -> None:
    model(tmp_path, "m")
    found = findings(tmp_path, gpu={"device": "host"}, models={"m": {}})
    assert (found.errors, found.warnings, found.models) == ([], [], 1)


def test_everything_that_is_missing_is_said_at_once(tmp_path: Path) -> None:
    found = findings(
        tmp_path,
        engine={"path": "/nowhere/llama-server", "user": "nobody-has-this-name"},
        gpu={"device": 0},
        users={"no-such-user": {}, "root": {}},
        groups={"no-such-group": {}},
        gateway={"listen": "127.0.0.1:8080", "keys_file": str(tmp_path / "none.keys")},
        models_from=[str(tmp_path / "none")],
        models={
            "m": {},
            "c": {"command": ["/nowhere/vllm", "{socket}"], "estimated_memory_gb": 1},
            "d": {"command": [str(tmp_path), "{socket}"], "estimated_memory_gb": 1},
        },
    )
    errors, warnings = "\n".join(found.errors), "\n".join(found.warnings)
    assert "engine.path /nowhere/llama-server is not an executable file" in errors
    assert "engine.user nobody-has-this-name" in errors
    assert "models.c.command: /nowhere/vllm is not an executable file" in errors
    assert f"models.d.command: {tmp_path} is not an executable file" in errors
    assert "0, NVIDIA GPU, is unavailable" in warnings
    assert "users.no-such-user: there is no user of that name" in warnings
    assert "groups.no-such-group: there is no group of that name" in warnings
    assert "users.root" not in warnings
    assert f"gateway.keys_file {tmp_path}/none.keys: is not there" in warnings
    assert f"models_from: {tmp_path}/none: No such file" in warnings
    assert "models.m: there is no m.gguf" in warnings


def test_flags_that_the_build_lacks_are_said_before_it_is_started_with_them(tmp_path: Path) -> None:
    model(tmp_path, "m")
    flags = ["--reasoning-effort", "low"]
    found = findings(tmp_path, gpu={"device": "host"}, models={"m": {"engine_flags": flags, "repack": False}})
    (error,) = found.errors
    assert error.startswith(f"models.m.engine_flags: llama-server {tmp_path}/llama-server")
    assert "has no --reasoning-effort: take it out, or name a build that has it (engine.path)" in error


def test_a_key_whose_flag_the_build_lacks_is_said_too(tmp_path: Path) -> None:
    model(tmp_path, "m")
    found = findings(tmp_path, gpu={"device": "host"}, models={"m": {"pooling": "mean", "load_mode": "none"}})
    assert any("models.m: llama-server" in error and "has no --pooling" in error for error in found.errors)


def test_a_build_with_flags_that_nobody_knows_is_said_to_be_newer(tmp_path: Path) -> None:
    model(tmp_path, "m")
    engine = fake_engine(tmp_path)
    newer = tmp_path / "newer"
    newer.write_text(
        f"#!/bin/sh\ncase $1 in --help) {engine} --help; echo '-mvc,  --moe-vram-cache N     experts that stay';;\n"
        f'*) exec {engine} "$@";; esac\n'
    )
    newer.chmod(0o755)
    found = findings(tmp_path, engine={"path": str(newer)}, gpu={"device": "host"}, models={"m": {}})
    (warning,) = found.warnings
    assert "is newer than the builds that are known, for it has --moe-vram-cache, -mvc" in warning
    assert "checked by its own dry run" in warning
    assert found.errors == []


def test_directories_and_certificates_that_are_named_are_looked_at(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "cert.pem").write_text("no certificate")
    found = findings(
        tmp_path,
        gpu={"device": "host"},
        model_dir=str(tmp_path / "none"),
        model_dirs=[str(tmp_path), str(tmp_path / "file")],
        gateway={"tls_cert": str(tmp_path / "cert.pem")},
    )
    assert found.errors == []
    certificate, *directories = found.warnings
    assert certificate.startswith(f"gateway.tls_cert {tmp_path}/cert.pem: ")
    assert "give a PEM certificate" in certificate
    assert directories == [
        f"model_dir: {tmp_path}/none is no directory (make it, or name another)",
        f"model_dirs: {tmp_path}/file is no directory (make it, or name another)",
    ]
    found = findings(
        tmp_path, gpu={"device": "host"}, gateway={"tls_cert": "/nowhere/c.pem", "tls_key": str(tmp_path / "file")}
    )
    (missing,) = found.warnings
    assert missing.startswith("gateway.tls_cert /nowhere/c.pem: No such file or directory")


def test_a_gpu_that_is_named_and_not_there_is_said_beside_one_that_is(tmp_path: Path) -> None:
    found = findings(tmp_path, FakeNvml(card(uuid="GPU-a")), gpu={"devices": [0, 3]})
    assert ["3" in warning for warning in found.warnings] == [True]


def test_models_of_directories_are_looked_at_too(tmp_path: Path) -> None:
    (tmp_path / "shelf").mkdir()
    model(tmp_path / "shelf", "good")
    (tmp_path / "shelf/junk.gguf").write_bytes(b"junk")
    found = findings(tmp_path, gpu={"device": "host"}, models_from=[str(tmp_path / "shelf")])
    assert found.models == 2
    assert [warning.startswith("models.junk: ") for warning in found.warnings] == [True]


def command(path: Path, *arguments: str, **env: str) -> Result:
    return CliRunner().invoke(main, ["check-config", "--config", str(path), *arguments], env=env)


def test_the_command_says_ok_only_if_all_is_there(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    model(tmp_path, "m")
    good: dict[str, Any] = {"model_dir": str(tmp_path), "gpu": {"device": "host"}, "models": {"m": {}}}
    path.write_text(yaml.safe_dump(good | {"engine": {"path": str(fake_engine(tmp_path))}}))
    done = command(path, "--user")
    assert (done.exit_code, done.output) == (0, f"{path}: ok, 1 model\n")
    path.write_text(yaml.safe_dump(good | {"engine": {"path": "/nowhere"}, "users": {"no-such-user": {}}}))
    done = command(path, "--user")
    assert done.exit_code == 78
    assert f"{path}: error: engine.path /nowhere" in done.output
    assert done.output.endswith(f"{path}: 1 model, 1 error, 1 warning\n")


@pytest.mark.parametrize("words", [["--user", "check-config"], ["check-config", "--user"]])
def test_the_user_s_own_configuration_is_found(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "lmxd").mkdir()
    (tmp_path / "lmxd/config.yaml").write_text("gpu: {device: host}")
    done = CliRunner().invoke(main, words, env={"XDG_CONFIG_HOME": str(tmp_path)})
    assert done.output == f"{tmp_path}/lmxd/config.yaml: ok, 0 models\n"


def test_a_key_is_added_to_the_user_s_own_file(tmp_path: Path) -> None:
    (tmp_path / "lmxd").mkdir()
    (tmp_path / "lmxd/config.yaml").write_text(f"gateway: {{listen: '127.0.0.1:1', keys_file: {tmp_path}/keys}}")
    for words in (["--user", "key", "me"], ["key", "me", "--user"]):
        (tmp_path / "keys").unlink(missing_ok=True)
        done = CliRunner().invoke(main, words, env={"XDG_CONFIG_HOME": str(tmp_path)})
        assert (done.exit_code, (tmp_path / "keys").exists()) == (0, True), done.output


@pytest.fixture
def home() -> Iterator[Path]:
    """A home that is shut for others, in a directory that is open."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o755)
    (made / "home/models").mkdir(parents=True)
    (made / "home").chmod(0o700)
    yield made / "home"
    shutil.rmtree(made)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can look with another's eyes")
def test_files_are_looked_at_with_the_eyes_of_the_service_s_user(home: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    shut, closed, there = model(home / "models", "m"), model(home.parent, "closed"), model(home.parent, "open")
    closed.chmod(0o600)
    (home.parent / "link.gguf").symlink_to(shut)
    link = home.parent / "link.gguf"
    found = obstacles_of(nobody, [shut, closed, there, link, home.parent / "none.gguf"])
    assert found == {shut: home, closed: closed, link: home}
    assert os.geteuid() == 0
    assert let_in("lmxd", shut, home).startswith(f"setfacl -m u:lmxd:x {home}")
    assert let_in("lmxd", closed, closed).startswith(f"setfacl -m u:lmxd:r {closed}")
