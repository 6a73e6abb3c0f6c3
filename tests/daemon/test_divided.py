"""Models that are divided between a GPU and RAM: launched as the ledger has them, and shown before as choices."""

from __future__ import annotations

import asyncio
import itertools
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import synthetic
from click.testing import CliRunner
from devices.fake_nvml import FakeNvml
from house import House, card

from lmxd.cli import explanations
from lmxd.core.invariants import broken
from lmxd.core.words import InstanceId
from lmxd.engines.llama_cpp.repack import repacked_types
from lmxd.errors import LmxdError

GIB = 2**30
OFFLOADED = ["load_tensors: offloaded 9/9 layers to GPU"]


def sparse(directory: Path, name: str) -> Path:
    """A file of 8 layers whose experts are 0.9 of its 2 GiB."""
    parts = synthetic.decoder(
        "qwen3moe", layers=8, embedding=1024, heads=16, kv_heads=4, feed_forward=2048, vocabulary=32000, head=64,
        experts=(64, 4, 2048), qk_norm=True, context=8192,
    )  # fmt: skip
    return synthetic.write(directory / f"{name}.gguf", *parts)


def house(tmp_path: Path, gib: float, **profile: Any) -> House:
    sparse(tmp_path, "m")
    return House(tmp_path, FakeNvml(card(gib)), models={"m": profile}, gpu={"margin_gb": 0})


async def test_experts_stay_in_ram_as_the_ledger_has_it(tmp_path: Path) -> None:
    async with house(tmp_path, 1.5, fit="auto").open() as h, h.client() as lmxd:
        planned = await lmxd.plan("m")
        (chosen,) = [c for c in planned.choices if c.chosen]
        lease = await lmxd.request("m")
        launched = h.launched(lease.instance)
        assert launched is not None
        argv = h.argv(launched)
        assert argv[argv.index("-ngl") + 1] == str(chosen.gpu_layers) == "9"
        kept = "|".join(map(str, range(chosen.experts_in_ram - 1)))
        assert argv[argv.index("-ot") + 1].startswith(rf"blk\.({kept})\.ffn_(down|gate|gate_up|up)_(ch|)exps")
        assert argv[argv.index("-ot") + 1].endswith("=CPU")
        assert lease.devices == planned.devices == {"GPU-a": chosen.devices["GPU-a"], "host": chosen.ram}


async def test_choices_are_shown_with_bytes_speed_and_room(tmp_path: Path) -> None:
    async with house(tmp_path, 1.5, fit="auto").open() as h, h.client() as lmxd:
        found = (await lmxd.plan("m")).choices
        fits = [c.fit.when for c in found]
        assert fits == ["never"] * fits.index("now") + ["now"] * fits.count("now")
        assert (found[0].speed, found[0].whole, found[0].gpu_layers) == (1.0, 9, 9)
        for better, worse in itertools.pairwise(found):
            assert better.devices["GPU-a"] > worse.devices["GPU-a"]
            assert better.ram < worse.ram
            assert better.speed >= worse.speed
            assert better.whole >= worse.whole
        assert [c.chosen for c in found].index(True) == fits.index("now"), "the most that fits now"
        bounded = await lmxd.plan("m", min_gpu_layers=9)
        assert (bounded.outcome, bounded.code, bounded.choices) == ("refuse", "never_fits", [])


async def test_a_refusal_says_that_it_could_be_divided(tmp_path: Path) -> None:
    async with house(tmp_path, 1.5).open() as h, h.client() as lmxd:
        with pytest.raises(LmxdError) as refused:
            await lmxd.request("m")
        assert refused.value.code == "never_fits"
        assert refused.value.remedy is not None
        assert refused.value.remedy.endswith(", or have fit: auto in its profile")


async def test_a_model_that_must_be_whole_has_no_choices(tmp_path: Path) -> None:
    async with house(tmp_path, 24).open() as h, h.client() as lmxd:
        planned = await lmxd.plan("m")
        assert (planned.choices, list(planned.devices)) == ([], ["GPU-a"]), "RAM counts only if it may be used"
        with pytest.raises(LmxdError, match="min_gpu_layers"):
            await lmxd.request("m", min_gpu_layers=-1)


def _has_ram(house: House, wanted: bool) -> bool:
    return house.daemon.present.layout.has_ram is wanted


async def test_ram_comes_and_goes_with_the_only_profile_that_uses_it(tmp_path: Path) -> None:
    """An instance that is there goes on as it was admitted, and nothing is lost or counted twice."""
    async with house(tmp_path, 1.5, fit="auto").open() as h, h.client() as lmxd:
        first = await lmxd.request("m")
        written = h.daemon.config_path.read_text()
        for text, has_ram in ((written.replace("fit: auto", "fit: whole"), False), (written, True)):
            h.daemon.config_path.write_text(text)
            await h.daemon.reload()
            await h.until(partial(_has_ram, h, has_ram))
            assert broken(h.state) == []
            assert h.state.instances[InstanceId(first.instance)].leases.keys() == {first.lease}
        await lmxd.release(first.lease)
        again = await lmxd.request("m")
        assert (again.instance, again.devices) == (first.instance, first.devices)
        assert broken(h.state) == []


async def test_a_request_for_more_layers_waits_while_others_are_served(tmp_path: Path) -> None:
    sparse(tmp_path, "m")
    models = {"m": {"fit": "auto", "slots": 2}, "big": {"estimated_memory_gb": 3}}
    sparse(tmp_path, "big")
    async with (
        House(tmp_path, FakeNvml(card(4)), models=models, gpu={"margin_gb": 0}).open() as h,
        h.client() as lmxd,
        h.client() as other,
    ):
        held = await lmxd.request("big")
        slow = await lmxd.request("m")
        assert slow.devices["GPU-a"] <= GIB
        waiting = asyncio.create_task(other.request("m", min_gpu_layers=9))
        await h.until(lambda: len(h.daemon.admission.state.queue) == 1)
        await lmxd.release(held.lease)
        whole = await waiting
        assert whole.devices["GPU-a"] > 2 * GIB
        assert whole.instance != slow.instance


async def test_the_table_of_choices_fits_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(tmp_path, 1.5, fit="auto").open() as h:
        monkeypatch.setenv("LMXD_SOCKET", str(h.where.socket))
        done = await asyncio.to_thread(CliRunner().invoke, explanations.plan, ["m"])
        lines = done.output.splitlines()
        assert done.exit_code == 0, done.output
        head = next(line for line in lines if "ON GPU" in line)
        assert max(map(len, lines[lines.index(head) :])) <= 80
        assert head.split() == ["ON", "GPU", "EXPERTS", "IN", "RAM", "GPU", "GiB", "RAM", "GiB", "SPEED", "ROOM"]
        assert next(line for line in lines if line.startswith("*")).split()[-1] == "now"
        assert "9 layers on the GPU, the rest in RAM" in done.output


@pytest.mark.skipif("q4_0" not in repacked_types(), reason="this CPU rearranges no weights")
@pytest.mark.parametrize(("gib", "helps"), [(2, True), (0.5, False)])
async def test_a_refusal_in_ram_says_that_weights_need_no_second_copy(tmp_path: Path, gib: float, helps: bool) -> None:
    sparse(tmp_path, "m")
    async with (
        House(tmp_path, models={"m": {}}, gpu={"device": "host", "max_memory_gb": gib}).open() as h,
        h.client() as lmxd,
    ):
        with pytest.raises(LmxdError) as refused:
            await lmxd.request("m")
        planned = await lmxd.plan("m")
        assert (refused.value.code, planned.code) == ("never_fits", "never_fits")
        assert planned.remedy == refused.value.remedy, "a plan says what a request would be told"
        assert ("have repack: false in its profile" in planned.remedy) is helps
        assert ("have repack: false in its profile" in refused.value.data["would_help"]) is helps
    models = {"m": {"repack": False}}
    async with (
        House(tmp_path, models=models, gpu={"device": "host", "max_memory_gb": gib}).open() as h,
        h.client() as lmxd,
    ):
        assert ((await lmxd.plan("m")).code != "never_fits") is helps, "what is said to help does help"
