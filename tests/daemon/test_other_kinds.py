"""Instances of SGLang and TGI under a whole lmxd, with fakes that take exactly the flags that they are given."""

from __future__ import annotations

import json
import os
import pwd
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from devices.fake_nvml import FakeNvml
from hf_directory import LLAMA, hf_directory, llama_tensors
from house import House, card, http

from lmxd.accounts import SystemUser
from lmxd.config.file import parse
from lmxd.daemon.launching.ownership import hand_over
from lmxd.engines.launching import socket_path
from lmxd.errors import ConfigError, LmxdError

FAKE = Path(__file__).parent.parent / "fake_servers.py"
GIB = 2**30
USED = 20 * GIB
OWN: dict[str, dict[str, Any]] = {"sglang": {"kv_tokens": 8192}, "tgi": {"open": True}}


def house(directory: Path, kind: str, nvml: FakeNvml | None = None) -> House:
    """One profile ``m`` of a kind, on a card that others use, too."""
    program = directory / "venv/bin" / kind
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE} {kind} "$@"\n')
    program.chmod(0o755)
    (directory / "venv/lib/python3.12/site-packages/sglang-0.5.23.dist-info").mkdir(parents=True)
    if nvml is None:
        nvml = FakeNvml(card(80))
        nvml.cards[0].other = USED
    profile = {
        "engine": kind,
        "program": str(program),
        "path": str(hf_directory(directory / "model", LLAMA, llama_tensors())),
        "context_length": 4096,
        "slots": 2,
        "estimated_memory_gb": 30,
    }
    return House(directory, nvml, models={"m": profile | OWN[kind]})


@pytest.mark.parametrize("kind", OWN)
async def test_it_is_started_with_what_was_admitted_and_leaves_nothing(tmp_path: Path, kind: str) -> None:
    async with house(tmp_path, kind).open() as h:
        async with h.client() as lmxd:
            lease = await lmxd.request("m")
            assert lease.devices == {"GPU-a": 30 * GIB}
            seen = json.loads((await http(lease, "/seen")).text)
            launched = h.launched(lease.instance)
            assert launched is not None
            assert lease.api_key not in " ".join(h.argv(launched))
            secret = Path(seen["--config"] if kind == "sglang" else seen["--shard-uds-path"])
            if kind == "sglang":
                assert (seen["--max-total-tokens"], seen["--mem-fraction-static"]) == ("8192", "0.5000")
                assert yaml.safe_load(secret.read_text()) == {"api-key": lease.api_key}
                assert lease.upstream_name is None
            else:
                assert float(seen["--cuda-memory-fraction"]) == pytest.approx(50 / 80 / 0.99, abs=1e-4)
                assert seen["env"]["API_KEY"] == lease.api_key
                assert lease.upstream_name == "tgi"
            assert stat.S_IMODE(secret.parent.stat().st_mode) == 0o700
        await h.until(lambda: not h.state.leases)
        async with h.client() as lmxd:
            await lmxd.stop(lease.instance)
        await h.until(lambda: not secret.parent.exists())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
async def test_its_directory_is_its_engines_user_s(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    account = SystemUser(name="nobody", uid=nobody.pw_uid, gid=nobody.pw_gid, groups=(), home="/")
    async with house(tmp_path, "sglang").open() as h, h.client() as lmxd:
        launched = h.launched((await lmxd.request("m")).instance)
        assert launched is not None
        assert launched.start.address is not None
        hand_over(launched.start, account)
        directory = socket_path(launched.plan.home, launched.instance).parent
        owned = [directory, *directory.iterdir(), launched.start.address.key_file]
        assert [path.stat().st_uid for path in owned] == [nobody.pw_uid] * 3


@pytest.mark.parametrize("kind", OWN)
async def test_in_ram_it_is_refused(tmp_path: Path, kind: str) -> None:
    async with house(tmp_path, kind, FakeNvml()).open() as h, h.client() as lmxd:
        with pytest.raises(LmxdError, match="GPU") as refused:
            await lmxd.request("m")
        assert refused.value.remedy


@pytest.mark.parametrize(
    ("profile", "problem"),
    [
        ("{engine: sglang, path: /m}", "estimated_memory_gb: say what it takes of each GPU"),
        ("{engine: tgi, path: /m, estimated_memory_gb: 9}", "open: every user of this machine can read TGI's key"),
        ("{engine: tgi, path: /m, estimated_memory_gb: 9, open: true, kv_tokens: 9}", "kv_tokens: TGI has no such key"),
        ("{engine: sglang, path: /m, estimated_memory_gb: 9, sleep: true}", "sleep: SGLang has no such key"),
        ("{engine: sglang, path: /m, estimated_memory_gb: 9, gpu_layers: 3}", "gpu_layers: SGLang has no such key"),
        ("{engine: sglang, path: /m, estimated_memory_gb: 9, endpoint: unix}", "endpoint: SGLang has no such key"),
        ("{engine: sglang, path: /m, estimated_memory_gb: 9, engine_flags: [--tp-size, '2']}", "use the key gpus"),
        ("{engine: tgi, path: /m, estimated_memory_gb: 9, open: true, engine_flags: [--ngrok]}", "--ngrok is refused"),
    ],
)
def test_a_key_that_it_has_not_is_refused_with_the_reason(profile: str, problem: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(f"models: {{m: {profile}}}", "test")
    assert problem in str(refused.value)


def test_what_every_user_can_read_is_warned_of() -> None:
    config = parse("models: {m: {engine: tgi, path: /m, estimated_memory_gb: 9, open: true}}", "test")
    assert [warning for warning in config.warnings if warning.startswith("models.m is open")]
