"""Leases that share one cache: each has as many slots of it as it may use tokens, and grows where it is."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from devices.fake_nvml import FakeNvml
from house import House, card, http, model
from prometheus_client import generate_latest

from lmxd.cli import output
from lmxd.cli.estimate import show
from lmxd.errors import LmxdError


def house(tmp_path: Path, **keys: Any) -> House:
    """``m`` has one cache of eight times 512 tokens. A card has room for two instances of it."""
    model(tmp_path, "m")
    shared = {"context_length": 4096, "estimated_memory_gb": 9, "slots": 8, "kv_unified": True}
    return House(tmp_path, FakeNvml(card()), models={"m": shared | {"elastic": {"start": 512, "steps": [4096]}} | keys})


async def test_a_bounded_lease_has_what_it_asks_for_and_grows_where_it_is(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        lease = await lmxd.request("m", bounded=True)
        assert (lease.ctx, lease.ctx_most, lease.slots, lease.instance_slots) == (512, 4096, 1, 8)
        other = await lmxd.request("m", ctx=1100, bounded=True)
        assert (other.ctx, other.slots, other.instance) == (1536, 3, lease.instance)
        grown = await lmxd.grow(lease.lease, 2048)
        assert (grown.ctx, grown.slots, grown.instance, grown.api_key) == (2048, 4, lease.instance, lease.api_key)
        assert (await lmxd.grow(lease.lease, 1000)).slots == 4, "it has as much"
        (instance,) = (await lmxd.instances()).instances
        assert (instance.ctx, instance.slots, instance.vacant) == (4096, 8, 1)
        assert (await lmxd.models()).models[0].elastic.growths_per_hour == 1  # type: ignore[union-attr]


async def test_a_growth_waits_for_slots_of_others_where_no_other_instance_may_be(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        lease = await lmxd.request("m", bounded=True)
        other = await lmxd.request("m", ctx=3000, bounded=True)
        with pytest.raises(LmxdError) as error:
            await lmxd.grow(lease.lease, 2048, wait=0, max_instances=1)
        assert error.value.code == "no_capacity"
        growing = asyncio.create_task(lmxd.grow(lease.lease, 2048, max_instances=1))
        await h.until(lambda: h.state.leases[lease.lease].growing is not None)
        (ticket,) = (await lmxd.queue()).tickets
        assert output.reason(ticket) == f"waits for 4 slots of {lease.instance}"
        await lmxd.release(other.lease)
        grown = await growing
        assert (grown.slots, grown.instance) == (4, lease.instance)


async def test_who_may_use_more_than_its_lease_says_is_alone(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        bounded = await lmxd.request("m", bounded=True)
        free = await lmxd.request("m")
        assert (free.ctx, free.slots) == (4096, 8)
        assert free.instance != bounded.instance
        with pytest.raises(LmxdError) as error:
            await lmxd.request("m", ctx=512, wait=0)
        assert error.value.code == "no_capacity"
        third = await lmxd.request("m", ctx=512, bounded=True)
        assert third.instance == bounded.instance
        assert len(h.state.instances) == 2


async def test_more_than_the_cache_has_is_refused_with_a_remedy(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        for how in ({"ctx": 4097}, {"ctx": 2048, "slots": 3}):
            with pytest.raises(LmxdError, match="4096") as error:
                await lmxd.request("m", bounded=True, **how)  # type: ignore[arg-type]
            assert error.value.code == "invalid_params"
            assert error.value.remedy
        with pytest.raises(LmxdError, match="4097"):
            await lmxd.request("m", ctx=4097)
        assert not h.state.instances


async def test_an_instance_is_started_with_one_cache_and_all_its_slots(tmp_path: Path) -> None:
    async with house(tmp_path, elastic={"start": 500}).open() as h, h.client() as lmxd:
        lease = await lmxd.request("m", bounded=True)
        (pid,) = [i.pid for i in (await lmxd.instances()).instances]
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        said = {name: words[words.index(name) + 1] for name in ("-c", "-np")}
        assert said == {"-c": "4096", "-np": "8"}
        assert "--kv-unified" in words
        assert lease.ctx == 512, "start is rounded up as llama-server does"


async def test_growths_in_place_survive_a_restart_of_lmxd(tmp_path: Path) -> None:
    h = house(tmp_path)
    async with h.open(stays=True), h.client() as lmxd:
        lease = await lmxd.request("m", bounded=True, hold="ttl", ttl=600)
        await lmxd.grow(lease.lease, 2048)
    async with h.open(), h.client() as lmxd:
        kept = await lmxd.grow(lease.lease, 1)
        assert (kept.ctx, kept.slots, kept.instance) == (2048, 4, lease.instance)
        rest = await lmxd.request("m", ctx=2048, bounded=True)
        assert (rest.instance, rest.slots) == (lease.instance, 4)


async def test_an_estimate_says_that_all_slots_share_the_tokens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Several conversations may have more together than the model was trained for, which is nothing to be told of."""
    async with house(tmp_path, context_length=32768, slots=128, elastic={"start": 512}).open() as h, h.client() as lmxd:
        found = await lmxd.estimate("m")
        show(found, json_wanted=False)
        assert "65536 tokens in one cache for 128 slots" in capsys.readouterr().out
        assert not any("trained" in note for note in found.notes)


async def test_plans_and_metrics_tell_of_it(tmp_path: Path) -> None:
    async with house(tmp_path, slots=4).open() as h, h.client() as lmxd:
        growth = (await lmxd.plan("m")).growth
        assert growth is not None
        assert (growth.share, [(step.ctx, step.slots) for step in growth.steps]) == (512, [(2048, 4), (4096, 8)])
        elastic = (await lmxd.models()).models[0].elastic
        assert elastic is not None
        assert elastic.unified
        assert elastic.steps == list(range(512, 4097, 512))
        lease = await lmxd.request("m", bounded=True)
        await lmxd.grow(lease.lease, 1024)
        assert (
            'lmxd_growths_total{model="m",result="widened"} 1.0' in generate_latest(h.daemon.metrics.registry).decode()
        )


async def test_a_cache_that_is_too_small_is_followed_by_one_with_room_for_all(tmp_path: Path) -> None:
    async with house(tmp_path, slots=2, elastic={"start": 512, "steps": [2048]}).open() as h, h.client() as lmxd:
        first = await lmxd.request("m", bounded=True, max_instances=1)
        assert (first.instance_slots, first.slots) == (2, 1)
        with pytest.raises(LmxdError) as error:
            await lmxd.request("m", ctx=1000, bounded=True, max_instances=1, wait=0)
        assert error.value.code == "no_capacity", "it waits for slots rather than take more bytes"
        second = await lmxd.request("m", ctx=1500, bounded=True, max_instances=1)
        assert (second.instance_slots, second.slots) == (4, 3), "it has room for what both have"
        third = await lmxd.request("m", bounded=True, max_instances=1)
        assert third.instance == second.instance, "the smaller one serves nobody any more"
        await lmxd.release(first.lease)
        await h.until(lambda: first.instance not in h.state.instances)
        grown = await lmxd.grow(third.lease, 2500, max_instances=1)
        assert (grown.instance_slots, grown.slots) == (8, 5)
        await lmxd.release(second.lease)
        with pytest.raises(LmxdError) as error:
            await lmxd.request("m", ctx=2048, bounded=True, max_instances=1, wait=0)
        assert error.value.code == "no_capacity", "there is none larger"


async def test_who_had_rather_not_be_where_others_go_on_gets_a_larger_one_if_there_is_room(tmp_path: Path) -> None:
    async with (
        house(tmp_path, slots=2, estimated_memory_gb=None, elastic={"start": 512}).open() as h,
        h.client() as lmxd,
    ):
        first = await lmxd.request("m", bounded=True, max_instances=1)
        apart = await lmxd.request("m", bounded=True, max_instances=1, apart=[first.instance])
        assert (first.instance_slots, apart.instance_slots) == (2, 4)
        third = await lmxd.request("m", bounded=True, max_instances=1)
        assert third.instance == apart.instance
        (device,) = (await lmxd.devices()).devices
        await lmxd.hold(device.headroom)
        shares = await lmxd.request("m", bounded=True, max_instances=1, apart=[apart.instance])
        assert shares.instance == apart.instance, "there is no room for a larger one"


async def test_who_waits_for_a_larger_one_still_does_when_its_room_was_looked_at_again(tmp_path: Path) -> None:
    async with (
        house(tmp_path, slots=2, estimated_memory_gb=None, elastic={"start": 512}).open() as h,
        h.client() as lmxd,
    ):
        first = await lmxd.request("m", ctx=1024, bounded=True)
        (device,) = (await lmxd.devices()).devices
        hold = await lmxd.hold(device.headroom)
        waits = asyncio.create_task(lmxd.request("m", bounded=True, apart=[first.instance]))
        await h.until(lambda: len(h.state.queue) == 1)
        h.daemon.asks.renew()
        await lmxd.release(hold.lease)
        assert (await waits).instance_slots == 4


async def test_an_idle_cache_gives_back_what_its_conversations_do_not_use(tmp_path: Path) -> None:
    h = house(tmp_path, slots=2, estimated_memory_gb=None, elastic={"start": 512, "idle_shrink": 0.2})
    async with h.open(), h.client() as lmxd:
        model(tmp_path, "m", counts=True)
        lease = await lmxd.request("m", ctx=4000, bounded=True)
        assert lease.instance_slots == 8
        await http(lease, "/completion", json.dumps({"prompt": "a" * 700, "n_predict": 1, "id_slot": 5}).encode())
        await lmxd.release(lease.lease)
        await h.until(lambda: lease.instance not in h.state.instances)
        again = await lmxd.request("m", ctx=1000, bounded=True)
        assert again.instance_slots == 2, "these are enough for 701 tokens and a quarter more"
        said = await http(
            again, "/completion", json.dumps({"prompt": "a" * 701, "n_predict": 1, "id_slot": 0}).encode()
        )
        assert json.loads(said.text)["timings"]["cache_n"] >= 700


async def test_a_lease_moves_to_a_larger_cache_for_others_if_there_is_room(tmp_path: Path) -> None:
    async with (
        house(tmp_path, slots=2, estimated_memory_gb=None, elastic={"start": 512}).open() as h,
        h.client() as lmxd,
    ):
        lease = await lmxd.request("m", bounded=True, max_instances=1)
        moved = await lmxd.grow(lease.lease, 512, apart=[lease.instance], max_instances=1, wait=0)
        assert (moved.instance_slots, moved.slots) == (4, 1)
        (device,) = (await lmxd.devices()).devices
        await lmxd.hold(device.headroom)
        stays = await lmxd.grow(lease.lease, 512, apart=[moved.instance], max_instances=1, wait=0)
        assert (stays.instance, stays.slots) == (moved.instance, 1), "there is no room for a larger one"


async def test_an_idle_cache_keeps_as_many_slots_as_idle_leases_have(tmp_path: Path) -> None:
    h = house(tmp_path, slots=2, estimated_memory_gb=None, elastic={"start": 512, "idle_shrink": 0.2})
    async with h.open(), h.client() as lmxd:
        first = await lmxd.request("m", ctx=4000, bounded=True)
        await lmxd.release(first.lease)
        lease = await lmxd.request("m", ctx=1500, bounded=True)
        assert (lease.instance, lease.slots, lease.instance_slots) == (first.instance, 3, 8)
        await http(lease, "/completion", json.dumps({"prompt": "a" * 100, "n_predict": 1, "id_slot": 5}).encode())
        await h.until(lambda: lease.instance not in h.state.instances)
        await h.until(lambda: lmxd.lease(lease.lease).instance != lease.instance)  # its holder is told
        now = lmxd.lease(lease.lease)
        assert (now.slots, now.instance_slots) == (3, 4)


async def test_after_a_reload_with_larger_slots_a_lease_has_what_it_asks_for(tmp_path: Path) -> None:
    h = house(tmp_path)
    async with h.open(), h.client() as lmxd:
        before = await lmxd.request("m", ctx=1000, bounded=True)
        h.write(
            models={
                "m": {
                    "context_length": 4096,
                    "estimated_memory_gb": 9,
                    "slots": 4,
                    "kv_unified": True,
                    "elastic": {"start": 1024},
                }
            }
        )
        await lmxd.reload()
        after = await lmxd.request("m", ctx=2048, bounded=True)
        assert (after.ctx, after.slots, after.instance != before.instance) == (2048, 2, True)
        grown = await lmxd.grow(before.lease, 1500, carry=False)
        assert (grown.ctx, grown.instance) == (2048, after.instance)
