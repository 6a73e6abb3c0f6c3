"""Several engines by name in one daemon: each runs the models that choose it, with its own program and environment."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from devices.fake_nvml import FakeNvml
from house import House, card, fake_engine, http

from lmxd.__main__ import main
from lmxd.daemon.launching.launched import Launched
from lmxd.errors import LmxdError

ALL = "  CUDA0: card (1 MiB, 1 MiB free)\n  Vulkan0: card (1 MiB, 1 MiB free)"


def build(directory: Path, name: str, version: str, listing: str = ALL) -> Path:
    """A fake llama-server as another build: of its own version, with the devices that it lists."""
    path = directory / name / "llama-server"
    path.parent.mkdir(exist_ok=True)
    (path.parent / "devices").write_text(f"Available devices:\n{listing}\n")
    path.write_text(
        f'#!/bin/sh\n[ "$1" = --list-devices ] && exec cat {path.parent}/devices\n'
        f'[ "$1" = --version ] && echo "version: {version}" && exit\nexec {fake_engine(directory)} "$@"\n'
    )
    path.chmod(0o755)
    return path


def house(directory: Path, nvml: FakeNvml | None = None, **sections: Any) -> House:
    cuda, vulkan = build(directory, "cuda", "9001 (c)"), build(directory, "vulkan", "9002 (v)")
    engines = {
        "cuda": {"kind": "llama.cpp", "path": str(cuda)},
        "vulkan": {"path": str(vulkan), "env": {"GGML_VK_DISABLE_F16": True}},
    }
    models = {"a": {"engine": "cuda"}, "b": {"engine": "vulkan"}, "c": {}}
    return House(directory, nvml, **{"engines": engines, "models": models} | sections)


def launched(h: House, instance: str) -> Launched:
    found = h.launched(instance)
    assert found is not None
    return found


async def test_each_model_runs_on_its_engine_at_once_with_its_variables(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        leases = [await lmxd.request(name) for name in "abc"]
        assert [(await http(lease, "/health")).status for lease in leases] == [200, 200, 200]
        envs = [h.env(launched(h, f"{name}#1")) for name in "abc"]
        assert [env.get("GGML_VK_DISABLE_F16") for env in envs] == [None, "1", None]
        assert [launched(h, f"{name}#1").plan.engine for name in "abc"] == ["cuda", "vulkan", "llama.cpp"]
        status = await lmxd.status()
        assert list(status.engines) == ["llama.cpp", "cuda", "vulkan"]
        assert ("9001 (c)" in status.engines["cuda"], "9002 (v)" in status.engines["vulkan"]) == (True, True)
        assert {x.model: x.engine for x in (await lmxd.models()).models} == {
            "a": "cuda", "b": "vulkan", "c": "llama.cpp"
        }  # fmt: skip
        assert (await lmxd.plan("b")).engine == "vulkan"
        assert {i.engine for i in (await lmxd.instances()).instances} == {"cuda", "vulkan", "llama.cpp"}


async def test_a_kind_is_the_name_of_its_own_engine(tmp_path: Path) -> None:
    models = {"a": {"engine": "llama.cpp"}, "b": {}}
    async with house(tmp_path, models=models).open() as h, h.client() as lmxd:
        for name in "ab":
            await lmxd.request(name)
            assert launched(h, f"{name}#1").plan.engine == "llama.cpp"
    own = {"llama.cpp": {"path": str(build(tmp_path, "own", "9003 (o)"))}}
    async with house(tmp_path, engines=own, models=models).open() as h, h.client() as lmxd:
        assert list((await lmxd.status()).engines) == ["llama.cpp"]
        assert "9003 (o)" in (await lmxd.status()).engine, "what engines says of it goes before"


async def test_what_an_engine_leaves_out_is_as_engine_says(tmp_path: Path) -> None:
    general = {"endpoint": "tcp", "environment": {"RADV_DEBUG": "a"}, "stop_timeout": 3}
    engines = {"own": {"endpoint": "unix", "environment": {}, "stop_timeout": 4}, "same": None}
    models = {"a": {"engine": "own"}, "b": {"engine": "same"}}
    async with house(tmp_path, engine=general, engines=engines, models=models).open() as h, h.client() as lmxd:
        own, same = await lmxd.request("a"), await lmxd.request("b")
        assert (own.socket is None, same.socket is None) == (False, True)
        found = [launched(h, f"{name}#1") for name in "ab"]
        assert [h.env(x).get("RADV_DEBUG") for x in found] == [None, "a"]
        assert [x.start.limits.stop_timeout for x in found] == [4, 3]
        assert [x.start.limits.load_timeout for x in found] == [20, 20]


async def test_models_of_two_engines_are_sized_for_the_backend_of_each(tmp_path: Path) -> None:
    made = house(tmp_path, FakeNvml(card(24)), models={"a": {"engine": "cuda"}, "b": {"engine": "vulkan"}})
    build(tmp_path, "cuda", "9001 (c)", "  CUDA0: card (1 MiB, 1 MiB free)")
    build(tmp_path, "vulkan", "9002 (v)", "  Vulkan0: card (1 MiB, 1 MiB free)")
    async with made.open() as h, h.client() as lmxd:
        by_backend = {x.backend: x for x in (await lmxd.estimates()).contexts}
        assert {name: x.build for name, x in by_backend.items()} == {"CUDA": "9001 (c)", "Vulkan": "9002 (v)"}
        sizes = {x.model: x.bytes["GPU-a"] for x in (await lmxd.models()).models}
        assert sizes["a"] - sizes["b"] == by_backend["CUDA"].bytes - by_backend["Vulkan"].bytes


async def test_a_card_that_one_engine_serves_is_no_fault_of_the_other(tmp_path: Path) -> None:
    made = house(tmp_path, FakeNvml(card(24)), models={"a": {"engine": "cuda"}, "b": {"engine": "vulkan"}})
    build(tmp_path, "vulkan", "9002 (v)", "  (none)")
    async with made.open() as h, h.client() as lmxd:
        (said,) = [w for w in (await lmxd.status()).warnings if "built for the CPU alone" in w]
        assert ("vulkan" in said, "set engines.vulkan.path" in said) == (True, True)
        assert set((await lmxd.request("a")).devices) == {"GPU-a"}
        with pytest.raises(LmxdError, match="no model of it can run on GPU") as caught:
            await lmxd.request("b")
        assert "set engines.vulkan.path" in caught.value.remedy
        del h


async def test_an_upgrade_of_one_engine_is_noticed_and_leaves_the_others(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        before = (await lmxd.status()).engines
        lease = await lmxd.request("a")
        (tmp_path / "new").mkdir()
        fresh = build(tmp_path, "vulkan.new", "9999 (n)")
        os.replace(fresh, tmp_path / "vulkan" / "llama-server")
        assert await h.daemon.engine.notice(at_once=True)
        after = (await lmxd.status()).engines
        assert "9999 (n)" in after.pop("vulkan")
        assert after == {name: at for name, at in before.items() if name != "vulkan"}
        assert lease.instance in h.phases()


async def test_an_engine_that_is_missing_is_told_and_the_others_serve(tmp_path: Path) -> None:
    made = house(tmp_path)
    (tmp_path / "vulkan" / "llama-server").unlink()
    async with made.open() as h, h.client() as lmxd:
        status = await lmxd.status()
        assert status.engines["vulkan"] == "none"
        assert any("engines.vulkan.path" in w and "is not an executable file" in w for w in status.warnings)
        with pytest.raises(LmxdError, match=r"engines\.vulkan\.path") as caught:
            await lmxd.request("b")
        assert caught.value.code == "engine_missing"
        assert (await lmxd.request("a")).instance == "a#1"
        build(tmp_path, "vulkan", "9002 (v)")
        assert await h.daemon.engine.notice(at_once=True)
        assert (await lmxd.request("b")).instance == "b#1"
        assert not [w for w in (await lmxd.status()).warnings if "executable" in w]


async def test_an_engine_that_no_model_runs_on_need_not_be_there(tmp_path: Path) -> None:
    made = house(tmp_path, engine={"path": str(tmp_path / "nowhere")}, models={"a": {"engine": "cuda"}})
    async with made.open() as h, h.client() as lmxd:
        status = await lmxd.status()
        assert list(status.engines) == ["cuda", "vulkan"]
        assert not [w for w in status.warnings if "executable" in w]
        assert (await lmxd.request("a")).instance == "a#1"
        del h


async def test_who_names_engines_alone_is_told_to_choose_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = house(tmp_path, engine={"path": None})
    broken = tmp_path / "bin" / "llama-server"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\nexec /nowhere/llama-server\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(broken.parent), prepend=":")
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(card(24)))
    async with made.open() as h, h.client() as lmxd:
        (said,) = [w for w in (await lmxd.status()).warnings if "does not run" in w]
        assert said.endswith("models that name no engine want it: name one of cuda, vulkan in them")
        assert (await lmxd.request("a")).instance == "a#1"
        del h
    found = CliRunner().invoke(main, ["check-config", "--config", str(made.config_path)])
    assert "name one of cuda, vulkan in them" in found.output


async def test_instances_of_two_engines_are_not_shared_and_a_reload_leaves_what_runs(tmp_path: Path) -> None:
    made = house(tmp_path, models={"a": {"engine": "cuda", "slots": 4}})
    async with made.open() as h, h.client() as lmxd:
        first = await lmxd.request("a")
        assert (await lmxd.request("a")).instance == first.instance, "its slots are shared"
        made.write(models={"a": {"engine": "vulkan", "slots": 4}})
        await lmxd.reload()
        assert h.phases()[first.instance] == "ready"
        second = await lmxd.request("a")
        assert second.instance != first.instance
        assert launched(h, second.instance).plan.engine == "vulkan"
        assert launched(h, first.instance).plan.engine == "cuda"
        engines = made.sections["engines"] | {"vulkan": {"path": str(build(tmp_path, "other", "9009 (x)"))}}
        made.write(engines=engines)
        await lmxd.reload()
        third = await lmxd.request("a")
        assert third.instance not in (first.instance, second.instance), "new ones use the new program"
        assert "9009" in (await lmxd.status()).engines["vulkan"]


async def test_an_engine_that_goes_leaves_its_instances_also_over_a_restart(tmp_path: Path) -> None:
    made = house(tmp_path, models={"a": {"engine": "cuda"}})
    async with made.open(stays=True) as h, h.client() as lmxd:
        lease = await lmxd.request("a", hold="explicit")
        made.write(engines={}, models={"a": {}})
        await lmxd.reload()
        assert (await http(lease, "/health")).status == 200
        assert list((await lmxd.status()).engines) == ["llama.cpp"]
    async with made.open() as h, h.client() as lmxd:
        assert h.phases()[lease.instance] == "ready"
        assert launched(h, lease.instance).plan.engine == "cuda"
        assert (await http(lease, "/health")).status == 200
        await lmxd.release(lease.lease)
        other = await lmxd.request("a")
        assert launched(h, other.instance).plan.engine == "llama.cpp"


async def test_a_reload_with_an_unknown_engine_changes_nothing(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        h.write(models={"a": {"engine": "metal"}})
        with pytest.raises(
            LmxdError, match=re.escape("models.a.engine is 'metal': there is no such engine; there are")
        ):
            await lmxd.reload()
        assert launched(h, (await lmxd.request("a")).instance).plan.engine == "cuda"


def test_check_config_says_of_each_engine_whether_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(card(24)))
    made = house(tmp_path)
    found = CliRunner().invoke(main, ["check-config", "--config", str(made.config_path)])
    assert found.exit_code == 0
    for name, version in (("llama.cpp", ""), ("cuda", "9001 (c)"), ("vulkan", "9002 (v)")):
        (line,) = [line for line in found.output.splitlines() if f": engine {name}: " in line]
        assert version in line
    (tmp_path / "vulkan" / "llama-server").unlink()
    made.write(engines=made.sections["engines"] | {"spare": {"path": str(tmp_path / "spare")}})
    found = CliRunner().invoke(main, ["check-config", "--config", str(made.config_path)])
    assert found.exit_code == 78
    for name in ("vulkan", "spare"):
        assert f"engines.{name}.path" in found.output
    assert "engines.cuda.path" not in found.output
