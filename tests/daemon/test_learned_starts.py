"""Leases that start with what conversations were seen to need: by user, where there is room, until it is forgotten."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from devices.fake_nvml import FakeNvml
from house import House, card, http, model
from prometheus_client.exposition import generate_latest
from talks import ME, talked

from lmxd.cli.main import main
from lmxd.core.words import InstanceId, LeaseId
from lmxd.errors import LmxdError
from lmxd.rpc.messages import Granted

KEYS = {"context_length": 2048, "elastic": {"start": 512, "steps": [1024]}}


def house(directory: Path, **keys: object) -> House:
    """``m`` starts with 512 tokens, and grows to 1,024 and 2,048."""
    return House(directory, FakeNvml(card()), models={"m": KEYS | {"estimated_memory_gb": 2} | keys})


async def test_a_lease_starts_with_what_its_user_was_seen_to_need(tmp_path: Path) -> None:
    h = house(tmp_path)
    async with h.open(), h.client() as lmxd:
        talked(h, 900, times=7)
        assert (await lmxd.plan("m")).outcome == "start"
        before = await lmxd.request("m")
        assert before.ctx == 512, "too few were seen"
        talked(h, 900, times=1)
        assert (await lmxd.request("m")).ctx == 1024
        assert (await lmxd.request("m", ctx=100)).ctx == 512, "as it says"
        talked(h, 2000)
        assert (await lmxd.request("m")).ctx == 1024, "never the last step"


async def test_others_have_what_all_have_until_they_are_known(tmp_path: Path) -> None:
    h = house(tmp_path)
    async with h.open(), h.client() as lmxd:
        talked(h, 900, uid=ME + 1)
        assert (await lmxd.request("m")).ctx == 1024
        talked(h, 100)
        assert (await lmxd.request("m", exclusive=True)).ctx == 512
        assert h.daemon.catalog.start("m", (ME + 1, "")) == 1024


async def test_nobody_waits_for_a_guess(tmp_path: Path) -> None:
    h = house(tmp_path)
    async with h.open(), h.client() as lmxd:
        talked(h, 900)
        sizes = {ctx: next(iter((await lmxd.plan("m", ctx=ctx)).devices.values())) for ctx in (512, 1024)}
        assert sizes[512] < sizes[1024]
        assert sum((await lmxd.plan("m")).devices.values()) == sizes[1024]
        (gpu,) = (await lmxd.devices()).devices
        await lmxd.hold(gpu.headroom - (sizes[512] + sizes[1024]) // 2)
        assert sum((await lmxd.plan("m")).devices.values()) == sizes[512]
        assert (await lmxd.request("m")).ctx == 512


async def test_it_is_known_to_the_next_daemon_and_can_be_forgotten(tmp_path: Path) -> None:
    h = house(tmp_path)
    async with h.open():
        talked(h, 900)
    async with h.open(), h.client() as lmxd:
        (found,) = (await lmxd.models()).models
        assert found.elastic is not None
        assert (found.elastic.start, found.elastic.learned_from, found.elastic.steps) == (1024, 8, [512, 1024, 2048])
        assert (await lmxd.forget(model="m")).count >= 2, "of the user, and of all"
        assert (await lmxd.request("m")).ctx == 512
    async with h.open(), h.client() as lmxd:
        (found,) = (await lmxd.models()).models
        assert found.elastic is not None
        assert (found.elastic.start, found.elastic.learned_from) == (512, 0)


FIGURES = ("buffers", "predicted", "loaded", "prompted", "count")
NAMES = {"launch": "", "file": "", "model": "m", "card": "none"}
ODD = {
    "contexts.json": '[["m", null, 9, 512, 0, {"3": 1' + "0" * 400 + "}]]",
    "observations.json": json.dumps({"version": 1, "observations": [dict.fromkeys(FIGURES, 1) | NAMES]}),
    "peaks.json": '{"m": 1e999}',
    "rests.json": '{"m": ["m", "x", 1e999]}',
}


@pytest.mark.parametrize("deep", [True, False])
@pytest.mark.parametrize("name", ODD)
async def test_lmxd_starts_whatever_stands_in_the_files_of_what_it_learned(
    tmp_path: Path, name: str, *, deep: bool
) -> None:
    h = house(tmp_path)
    h.where.state.mkdir(parents=True)
    (h.where.state / name).write_text("[" * 100_000 if deep else ODD[name])
    async with h.open(), h.client() as lmxd:
        assert (await lmxd.request("m")).ctx == 512


async def test_other_steps_of_the_configuration_count_at_once(tmp_path: Path) -> None:
    h = house(tmp_path)
    async with h.open(), h.client() as lmxd:
        talked(h, 900)
        h.write(models={"m": KEYS | {"elastic": {"start": 256, "steps": [768, 1536]}}})
        await lmxd.reload()
        assert (await lmxd.request("m")).ctx == 1536
        h.write(models={"m": {"context_length": 2048}})
        await lmxd.reload()
        talked(h, 900)
        assert (await lmxd.request("m", exclusive=True)).ctx == 2048
        assert h.daemon.catalog.start("m", None) is None


async def test_the_list_of_models_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    h = house(tmp_path)
    monkeypatch.setenv("LMXD_SOCKET", str(h.where.socket))
    monkeypatch.setenv("COLUMNS", "80")
    async with h.open(), h.client() as lmxd:
        talked(h, 900)
        lease = await lmxd.request("m", ctx=512)
        await lmxd.grow(lease.lease, 600)
        said = await asyncio.to_thread(CliRunner().invoke, main, ["models"])
        assert said.exit_code == 0, said.output
        assert "512…2k" in said.stdout
        whole = " ".join(said.stdout.split())
        assert all(word in whole for word in ("starts", "1k", "(p90 of", "8)")), whole
        assert max(map(len, said.stdout.splitlines())) <= 80
        as_json = await asyncio.to_thread(CliRunner().invoke, main, ["models", "--json"])
        elastic = json.loads(as_json.stdout)["models"][0]["elastic"]
        assert (elastic["start"], elastic["learned_from"], elastic["growths_per_hour"]) == (1024, 8, 1)


async def test_a_smaller_instance_in_the_place_of_one_takes_fewer_bytes(tmp_path: Path) -> None:
    h = house(tmp_path)
    async with h.open(), h.client() as lmxd:
        lease = await lmxd.request("m", ctx=2048)
        asks, instance = h.daemon.asks, h.state.instances[InstanceId(lease.instance)]
        found = await asks.shrunk(instance, (700,))
        assert found is not None
        assert (found.context, found.kind, found.spread, found.elastic) == (1024, instance.ask.kind, 1, True)
        assert found.size < instance.option.size
        assert await asks.shrunk(instance, (1000,)) is None, "it would soon grow again"
        talked(h, 900)
        least = await asks.shrunk(instance, (10,))
        assert least is not None
        assert least.context == 1024, "its user starts with that"
        h.write(models={"m": {"context_length": 2048}})
        await lmxd.reload()
        assert await asks.shrunk(instance, (10,)) is None


async def say(h: House, lease: Granted, body: dict[str, object]) -> None:
    """A request, after which lmxd has looked at the slots."""
    launched = h.launched(lease.instance)
    assert launched is not None
    before = launched.work
    assert (await http(lease, "/completion", json.dumps(body).encode())).status == 200
    await h.until(lambda: launched.work != before and launched.looked_at == launched.work)


async def test_conversations_are_seen_in_the_slots_of_engines(tmp_path: Path) -> None:
    model(tmp_path, "m", counts=True)
    h = House(tmp_path, FakeNvml(card()), models={"m": KEYS | {"idle_timeout": 5}})
    async with h.open(), h.client() as lmxd:
        lease, known = await lmxd.request("m", ctx=1024), h.daemon.learning.contexts
        for n in range(10):  # as long as each other, so that only what is in the slot tells them apart
            for turn in range(1, 3):
                body = {"prompt": f"{n}" * 400 * turn, "n_predict": 3}
                await say(h, lease, body)
        await lmxd.release(lease.lease)
        await lmxd.stop(lease.instance)
        await h.until(lambda: known.known.sizes["m", None].count >= 8)
        assert (await lmxd.request("m")).ctx == 1024


async def test_an_idle_instance_goes_back_to_what_its_conversation_needs(tmp_path: Path) -> None:
    model(tmp_path, "m", counts=True)
    keys = KEYS | {"elastic": {"start": 512, "steps": [1024], "idle_shrink": 1}, "idle_timeout": 60}
    h = House(tmp_path, FakeNvml(card()), models={"m": keys})
    async with h.open(), h.client() as lmxd:
        lease = await lmxd.request("m", ctx=2048)
        await say(h, lease, {"prompt": "a" * 300, "n_predict": 3})
        held = h.state.leases[LeaseId(lease.lease)]
        await h.until(lambda: held.instance in h.state.instances and held.instance != lease.instance)
        now = (await lmxd.renew(lease.lease, instance=lease.instance)).moved
        assert now is not None
        assert now.ctx == 512
        said = await http(now, "/completion", json.dumps({"prompt": "a" * 301, "n_predict": 1}).encode())
        assert json.loads(said.text)["timings"]["cache_n"] >= 299
        told = generate_latest(h.daemon.metrics.registry).decode()
        assert 'lmxd_shrinks_total{model="m",why="idle"} 1.0' in told
        assert 'lmxd_conversations_carried_total{how="carried",model="m"} 1.0' in told
        assert "lmxd_growths_total{" not in told


async def test_growths_are_counted_by_what_became_of_them(tmp_path: Path) -> None:
    h = house(tmp_path)
    async with h.open(), h.client() as lmxd:
        lease = await lmxd.request("m")
        await lmxd.grow(lease.lease, 1000)
        await h.until(lambda: lease.instance not in h.state.instances)
        (gpu,) = (await lmxd.devices()).devices
        await lmxd.hold(gpu.headroom)
        with pytest.raises(LmxdError) as refused:
            await lmxd.grow(lease.lease, 2048, wait=0)
        assert refused.value.code == "no_capacity"
        told = generate_latest(h.daemon.metrics.registry).decode()
        assert 'lmxd_growths_total{model="m",result="moved"} 1.0' in told
        assert 'lmxd_growths_total{model="m",result="refused"} 1.0' in told
        assert 'lmxd_growth_seconds_count{model="m"} 1.0' in told
        assert 'lmxd_decisions_total{model="m",result="granted"} 1.0' in told, "a growth is no request"
        assert 'result="no_capacity"' not in told
