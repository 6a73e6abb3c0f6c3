"""contrib/kubernetes: what Kubernetes' own schemas, these sources and the images say of the manifest."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner
from waiting import GENEROUS

from lmxd.__main__ import main
from lmxd.fleet.home import FleetHome

MANIFEST = Path(__file__).parent.parent / "contrib/kubernetes/lmxd.yaml"
OBJECTS: list[dict[str, Any]] = list(yaml.safe_load_all(MANIFEST.read_text()))
PODS = [each for each in OBJECTS if each["kind"] in ("StatefulSet", "DaemonSet")]


def containers() -> list[dict[str, Any]]:
    return [x for pod in PODS for key in ("initContainers", "containers") for x in pod["spec"]["template"]["spec"][key]]


def commands() -> list[list[str]]:
    """The words behind ``lmxd`` of each container: its arguments behind the image's entry, or lines of its script."""
    found = [["--user", *x["args"]] for x in containers() if "args" in x]
    scripts = [x["command"][-1] for x in containers() if "command" in x]
    lines = [line.partition(" < ")[0] for script in scripts for line in script.splitlines()]
    return found + [shlex.split(line)[1:] for line in lines if line.startswith("lmxd ")]


NEWEST = kubernetes_validate.latest_version()


@pytest.mark.parametrize("each", OBJECTS, ids=lambda each: f"{each['kind']} {each['metadata']['name']}")
def test_kubernetes_knows_every_key(each: dict[str, Any]) -> None:
    kubernetes_validate.validate(each, NEWEST, strict=True)


def test_a_wrong_key_is_found() -> None:
    wrong = yaml.safe_load(yaml.safe_dump(PODS[0])) | {"replica": 1}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, NEWEST, strict=True)


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_its_commands_are_there(words: list[str]) -> None:
    done = CliRunner().invoke(main, [*words, "--help"], catch_exceptions=False)
    assert (done.exit_code, "Usage:" in done.output) == (0, True), done.output


def test_a_volume_is_there_for_each_mount() -> None:
    for pod in PODS:
        spec = pod["spec"]["template"]["spec"]
        claims = [claim["metadata"]["name"] for claim in pod["spec"].get("volumeClaimTemplates", [])]
        there = {volume["name"] for volume in spec.get("volumes", [])} | set(claims)
        mounted = {m["name"] for x in (*spec["initContainers"], *spec["containers"]) for m in x["volumeMounts"]}
        assert mounted == there


def test_a_fleet_is_begun_once_wherever_its_pod_was_ended(tmp_path: Path) -> None:
    (command,) = (x["command"] for x in containers() if x["name"] == "init")
    home, lmxd = FleetHome.at(tmp_path / "fleet", user=False), tmp_path / "lmxd"
    lmxd.write_text(f'#!/bin/sh\nexec {sys.executable} -m lmxd --config {tmp_path}/none "$@"\n')
    lmxd.chmod(0o755)
    script = re.sub(r"(?<!\w)/fleet\b", str(home.state), command[-1])
    env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def begun() -> str:
        subprocess.run([*command[:-1], script], env=env, check=True, timeout=GENEROUS)
        return home.config.read_text()

    whole = begun()
    assert begun() == whole
    home.config.write_text(whole.partition("gateway:")[0])
    assert begun() == whole
    assert home.settings.gateway.listen == "0.0.0.0:8080"
