"""What vLLM is promised: the same at every start, what it was seen to take if that is far from it, and forgotten."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from devices.fake_nvml import Card, FakeNvml
from hf_directory import LLAMA, hf_directory, llama_tensors
from house import House, card, fake_vllm

from lmxd.cli.main import main
from lmxd.daemon.learning.rests import Rests
from lmxd.errors import LmxdError
from lmxd.rpc.books import InstanceInfo
from lmxd.rpc.client import AsyncClient

MIB = 2**20


def house_of(tmp_path: Path, *cards: Card, **profile: Any) -> House:
    path = hf_directory(tmp_path / "v", LLAMA, llama_tensors())
    served = {"engine": "vllm", "program": str(fake_vllm(tmp_path, "0.32.0")), "path": str(path), **profile}
    return House(tmp_path, FakeNvml(*cards), models={"v": served})


@asynccontextmanager
async def started(house: House, ctx: int | None = None) -> AsyncIterator[dict[str, int]]:
    """An instance that runs; its promise on each device."""
    async with house.client() as client:
        lease = await client.request("v", ctx=ctx)
        instance = await running(client)
        yield dict(instance.promised)
        await client.release(lease.lease)
        await client.stop(instance.instance)


async def running(client: AsyncClient) -> InstanceInfo:
    """The one that is ready, beside those that end."""
    (instance,) = (i for i in (await client.instances()).instances if i.phase == "ready")
    return instance


def socket_of(house: House) -> dict[str, str]:
    return {"LMXD_SOCKET": str(house.where.socket)}


def is_started(house: House, instance: str) -> bool:
    return instance in house.daemon.launches.pids()


async def takes(house: House, gpu: Card, size: int) -> None:
    """Let the instance that runs be seen to take so many bytes."""
    async with house.client() as client:
        instance = await running(client)
    assert instance.pid is not None
    gpu.processes = {instance.pid: size}
    await house.daemon.measuring.look()
    gpu.processes = {}


async def test_five_starts_promise_the_same_bytes(tmp_path: Path) -> None:
    """It crept from 3,782 to 5,595 MiB, for an engine that is given more takes more."""
    gpu = card(24)
    house, promises = house_of(tmp_path, gpu), []
    async with house.open():
        for start in range(5):
            async with started(house) as promised:
                promises.append(promised)
                await takes(house, gpu, promised[gpu.uuid] + (start - 2) * 20 * MIB)
    assert len({json.dumps(p) for p in promises}) == 1


async def test_what_is_far_beyond_is_learned_once_and_outlives_a_restart(tmp_path: Path) -> None:
    gpu = card(24)
    house = house_of(tmp_path, gpu)
    async with house.open(), started(house) as first:
        await takes(house, gpu, first[gpu.uuid] + 900 * MIB)
    later = []
    for _ in range(3):
        async with house.open(), started(house) as promised:
            later.append(promised[gpu.uuid])
            await takes(house, gpu, first[gpu.uuid] + 930 * MIB)
    assert len(set(later)) == 1
    assert 900 * MIB <= later[0] - first[gpu.uuid] < 964 * MIB
    async with house.open(), house.client() as client:
        (told,) = (await client.estimates()).rests
        assert (told.model, told.card) == ("v", gpu.name)
        assert told.bytes == house.daemon.catalog.rests.get(*house.daemon.catalog.rests.sizes)
        shown = (await asyncio.to_thread(CliRunner().invoke, main, ["estimates"], env=socket_of(house))).output
        assert f"{told.bytes // MIB:,}" in shown.partition("BESIDE WEIGHTS AND CACHE MiB")[2]
        assert (await client.forget(model="v")).count == 1
        assert (await client.estimates()).rests == []
        async with started(house) as promised:
            assert promised == first


async def test_what_is_forgotten_is_not_learned_from_the_same_look_again(tmp_path: Path) -> None:
    gpu = card(24)
    house = house_of(tmp_path, gpu)
    async with house.open(), house.client() as client:
        async with started(house) as first:
            await takes(house, gpu, first[gpu.uuid] + 900 * MIB)
            assert (await client.forget(model="v")).count == 1
            await takes(house, gpu, first[gpu.uuid] + 900 * MIB)
        async with started(house) as later:
            assert later == first


async def test_one_of_which_processes_are_missing_yet_is_promised_no_less(tmp_path: Path) -> None:
    gpu = card(24)
    house = house_of(tmp_path, gpu)
    async with house.open():
        async with started(house) as first:
            await takes(house, gpu, 200 * MIB)
        async with started(house) as later:
            assert later == first


async def test_one_that_ends_is_promised_no_less(tmp_path: Path) -> None:
    """Its cores are gone before the process that they were started by: 5 GiB were learned to be 1 so."""
    gpu = card(24)
    house = house_of(tmp_path, gpu)
    async with house.open(), house.client() as client:
        lease = await client.request("v")
        instance = await running(client)
        launched = house.launched(instance.instance)
        assert launched is not None
        assert launched.ready_at is not None
        launched.ready_at -= 60
        await takes(house, gpu, instance.promised[gpu.uuid])
        await takes(house, gpu, 200 * MIB)
        await client.release(lease.lease)
        await client.stop(instance.instance)
        async with started(house) as later:
            assert later == instance.promised


async def test_it_holds_for_other_sizes_of_the_same_launch(tmp_path: Path) -> None:
    gpu = card(24)
    house = house_of(tmp_path, gpu)
    async with house.open():
        async with started(house) as small:
            await takes(house, gpu, small[gpu.uuid] + 900 * MIB)
        async with started(house) as learned:
            assert learned[gpu.uuid] >= small[gpu.uuid] + 900 * MIB
        async with started(house, ctx=16_384) as large:
            assert large[gpu.uuid] - learned[gpu.uuid] == (16_384 - 4096) * 512


async def test_equal_shares_on_two_cards_are_told_to_it(tmp_path: Path) -> None:
    one, two = card(24), Card(uuid="GPU-second", name=card(24).name, total=24 * 1024 * MIB)
    house = house_of(tmp_path, one, two, gpus=2)
    async with house.open(), house.client() as client:
        await client.request("v")
        instance = await running(client)
        assert set(instance.promised) >= {one.uuid, two.uuid}
        assert instance.promised[one.uuid] == instance.promised[two.uuid]
        words = house.argv(house.launched(instance.instance))
        assert words[words.index("--tensor-parallel-size") + 1] == "2"
        assert words[words.index("--kv-cache-memory-bytes") + 1] == str((4096 + 16) * 256)


async def test_more_cards_than_there_are_is_said(tmp_path: Path) -> None:
    async with house_of(tmp_path, card(24), gpus=2).open() as h, h.client() as client:
        with pytest.raises(LmxdError, match="gpus is 2"):
            await client.request("v")


async def test_a_cache_that_is_too_large_is_said_with_one_that_fits(tmp_path: Path) -> None:
    async with house_of(tmp_path, card(24), kv_tokens=2**30).open() as h, h.client() as client:
        with pytest.raises(LmxdError, match="never more than") as caught:
            await client.request("v")
        (helps,) = (word for word in caught.value.data["would_help"] if "kv_tokens" in word)
        assert helps in caught.value.remedy
        fitting = int(helps.split()[2])
        assert fitting % 4096 == 0
    async with house_of(tmp_path, card(24), kv_tokens=fitting).open() as h, h.client() as client:
        await client.request("v")
    async with house_of(tmp_path, card(24), kv_tokens=fitting + 8192).open() as h, h.client() as client:
        with pytest.raises(LmxdError, match="never more than"):
            await client.request("v")


def test_a_file_that_is_none_is_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "rests.json"
    for text in ("", "[]", '{"a": 3, "b": ["m", "c", -1], "c": ["m", "c", true]}'):
        path.write_text(text)
        assert Rests(path).known.sizes.get("a") is None
    path.write_text('{"k": ["m", "card", 5], "broken": ["m"]}')
    found = Rests(path)
    assert dict(found.known.sizes) == {"k": 5}
    assert found.forget(lambda whose: whose.card == "another") == 0
    assert found.forget(lambda whose: whose.model == "m") == 1
    assert dict(Rests(path).known.sizes) == {}


async def test_it_loads_beside_others_once_its_bytes_are_known(tmp_path: Path) -> None:
    """Its load takes minutes: others waited for it as long as its bytes grew."""
    gpu = card(24)
    house = house_of(tmp_path, gpu)
    async with house.open(), house.client() as client:
        gate = house.daemon.launches.loading.gate
        for name, keeps_others_out in (("v#1", ["v#1"]), ("v#2", [])):
            (tmp_path / "v" / "play.json").write_text(json.dumps({"load_seconds": 0.5}))
            asked = asyncio.create_task(client.request("v"))
            await house.until(partial(is_started, house, name))
            assert list(gate.alone) == keeps_others_out
            lease = await asked
            await takes(house, gpu, lease.devices[gpu.uuid] + 900 * MIB)
            await client.stop(name)
