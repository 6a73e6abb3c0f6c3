"""Every recipe of docs/recipes.md for another engine, started against a fake that takes exactly its flags."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from devices.fake_nvml import FakeNvml
from house import House, card, http, model

from lmxd.config.file import parse
from lmxd.core.words import InstanceId
from lmxd.errors import ConfigError, LmxdError

ROOT = Path(__file__).parent.parent.parent
FAKE = ROOT / "tests" / "fake_servers.py"
GIB = 2**30
USED = 7 * GIB
"""Of the card, by another user: each engine is to leave it that."""


def recipes() -> dict[str, dict[str, Any]]:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/recipes.md").read_text(), re.DOTALL)
    found = {name: profile for block in blocks for name, profile in yaml.safe_load(block)["models"].items()}
    return {name: profile for name, profile in found.items() if "command" in profile}


def played(tmp_path: Path, profile: dict[str, Any]) -> dict[str, Any]:
    """The same profile, with the fake in the place of its program."""
    words: list[str] = profile["command"]
    script = tmp_path / Path(words[0]).name
    script.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE} {script.name} "$@"\n')
    script.chmod(0o755)
    return profile | {"command": [str(script), *words[1:]]}


@pytest.mark.parametrize("name", recipes())
async def test_a_recipe_starts_serves_and_is_told_its_share(tmp_path: Path, name: str) -> None:
    profile = played(tmp_path, recipes()[name])
    if "path" in profile:
        model(tmp_path, str(profile["path"]).removesuffix(".gguf"))
    nvml = FakeNvml(card(80))
    nvml.cards[0].other = USED
    async with House(tmp_path, nvml, models={name: profile}).open() as h, h.client() as lmxd:
        lease = await lmxd.request(name)
        size = int(float(str(profile["estimated_memory_gb"])) * GIB)
        assert lease.devices == {"GPU-a": size}
        seen = json.loads((await http(lease, "/seen")).text)
        assert seen["env"]["CUDA_VISIBLE_DEVICES"] == "0", "some engines take no UUID"
        for flag, taken in (("--gpu-memory-utilization", size), ("--cuda-memory-fraction", size + USED)):
            if flag in seen:
                assert seen[flag] == pytest.approx(taken / (80 * GIB), abs=1e-4)
        for variable in ("VLLM_API_KEY", "API_KEY", "INFINITY_API_KEY"):
            if variable in profile.get("env", {}):
                assert seen["env"][variable] == lease.api_key
        launched = h.launched(lease.instance)
        assert launched is not None
        assert lease.api_key not in " ".join(h.argv(launched))


async def test_what_it_was_seen_to_take_is_promised_the_next_time(tmp_path: Path) -> None:
    nvml = FakeNvml(card(80))
    profile = played(tmp_path, recipes()["comfyui"])
    async with House(tmp_path, nvml, models={"c": profile}).open() as h, h.client() as lmxd:
        lease = await lmxd.request("c")
        nvml.cards[0].processes = {h.daemon.performer.pid(InstanceId(lease.instance)) or 0: 15 * GIB}
        await h.daemon.measuring.look()
        nvml.cards[0].processes = {}
        assert (await lmxd.models()).models[0].bytes == {"GPU-a": 15 * GIB}


async def test_one_that_does_not_start_says_why(tmp_path: Path) -> None:
    profile = played(tmp_path, recipes()["comfyui"] | {"command": ["/x/comfyui", "--port", "{port}", "--bad"]})
    async with House(tmp_path, FakeNvml(card(80)), models={"c": profile}).open() as h, h.client() as lmxd:
        with pytest.raises(LmxdError) as refused:
            await lmxd.request("c")
        assert refused.value.code == "launch_failed"
        assert "the following arguments are required: --listen" in "\n".join(refused.value.data["failure"]["log"])


async def test_each_engine_is_told_its_bytes_as_the_part_that_it_means(tmp_path: Path) -> None:
    said = ["{memory_fraction}", "{memory_fraction_of_free}", "{memory_fraction_with_used}"]
    parts = [word for pair in zip(("-c", "-ngl", "--host"), said, strict=True) for word in pair]
    command = [
        sys.executable,
        str(FAKE),
        "ik_llama",
        "-m",
        "m",
        *parts,
        "--port",
        "{port}",
        "--api-key-file",
        "{key_file}",
    ]
    nvml = FakeNvml(card(80))
    nvml.cards[0].other = 20 * GIB
    models = {"m": {"command": command, "estimated_memory_gb": 30}}
    async with House(tmp_path, nvml, models=models).open() as h, h.client() as lmxd:
        seen = json.loads((await http(await lmxd.request("m"), "/seen")).text)
        assert [seen[flag] for flag in ("-c", "-ngl", "--host")] == ["0.3750", "0.5000", "0.6250"]


@pytest.mark.parametrize(
    ("profile", "problem"),
    [
        ("{command: [vllm, '{socket}'], estimated_memory_gb: 1}", "whole path"),
        ("{command: [/x/vllm], estimated_memory_gb: 1}", "{socket} must be in it"),
        ("{command: [/x/vllm, '{socket}', '{port}'], estimated_memory_gb: 1}", "say where it is to listen"),
        ("{command: [/x/vllm, '{{socket}}'], estimated_memory_gb: 1}", "{socket} must be in it"),
        ("{command: [/x/vllm, '{socket}']}", "say what command takes"),
        ("{command: [/x/vllm, '{socket}', '{key}'], estimated_memory_gb: 1}", "known are"),
        ("{command: [/x/vllm, '{socket}', '{'], estimated_memory_gb: 1}", "brace"),
        ("{command: [/x/vllm, '{socket:>9}'], estimated_memory_gb: 1}", "nothing more in the braces"),
        ("{command: [/x/vllm, '{socket!r}'], estimated_memory_gb: 1}", "nothing more in the braces"),
        ("{command: [/x/vllm, '{socket}'], estimated_memory_gb: 1, suspend: true}", "suspend: for other engines"),
        ("{command: [/x/vllm, '{socket}'], estimated_memory_gb: 1, endpoint: tcp}", "endpoint: for other engines"),
        ("{health: /x}", "health: llama-server has no such key"),
        ("{open: true}", "open: llama-server has no such key"),
        ("{upstream_name: x}", "upstream_name: llama-server has no such key"),
    ],
)
def test_a_template_that_cannot_work_is_refused_with_the_reason(profile: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(problem)):
        parse(f"models: {{m: {profile}}}", "test")


@pytest.mark.parametrize(
    "keyless",
    ["command: [/x/e, '{port}']", "command: [/x/e, '{port}', '{{key_file}}']", "command: [/x/e], env: {P: '{port}'}"],
)
def test_an_engine_that_every_user_could_use_is_refused_unless_that_is_said(keyless: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(f"models: {{m: {{{keyless}, estimated_memory_gb: 1}}}}", "test")
    assert "models.m: command: every user of this machine could use it" in str(refused.value)
    assert "open: true" in str(refused.value)
    config = parse(f"models: {{m: {{{keyless}, estimated_memory_gb: 1, open: true}}, n: {{}}}}", "test")
    (warning,) = config.warnings
    assert warning.startswith("models.m is open")


@pytest.mark.parametrize(
    "closed",
    [
        "command: [/x/e, '{socket}']",
        "command: [/x/e, '{port}', '{key_file}']",
        "command: [/x/e, '{port}'], env: {K: '{key}'}",
        "command: [/x/e, '{port}'], env: {K: '{key_file}'}",
        "command: [/x/e], env: {HOST: 'unix:{socket}'}",
    ],
)
def test_an_engine_with_a_key_or_a_socket_is_not_open(closed: str) -> None:
    assert parse(f"models: {{m: {{{closed}, estimated_memory_gb: 1}}}}", "test").warnings == ()
    with pytest.raises(ConfigError, match="open: it is not"):
        parse(f"models: {{m: {{{closed}, estimated_memory_gb: 1, open: true}}}}", "test")


async def test_the_owner_of_the_machine_is_told_what_is_open(tmp_path: Path) -> None:
    profile = played(tmp_path, recipes()["comfyui"])
    async with House(tmp_path, FakeNvml(card(80)), models={"c": profile}).open() as h, h.client() as lmxd:
        assert [w for w in (await lmxd.status()).warnings if w.startswith("models.c is open")]
