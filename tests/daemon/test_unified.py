"""The daemon on a machine whose GPU has no memory of its own, such as a GB10."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from devices.fake_nvml import Card, FakeNvml
from house import House, model
from prometheus_client.exposition import generate_latest
from waiting import until

from lmxd.devices.host import memory_total
from lmxd.errors import LmxdError

GIB = 2**30
SIZE = 0.25
"""GiB of a model: the machine of the tests is small."""
RAM = memory_total(Path("/proc"))
ON_GPU = ["load_tensors:      CUDA0 model buffer size =  200.00 MiB"]


def house(tmp_path: Path, **sections: Any) -> House:
    for name in "ab":
        model(tmp_path, name, buffers=ON_GPU)
    gb10 = Card("GPU-a", 0, name="NVIDIA GB10", faults={"Memory": 3, "Memory_v2": 3})
    models = {name: {"estimated_memory_gb": SIZE} for name in "ab"}
    return House(tmp_path, FakeNvml(gb10), **({"models": models} | sections))


async def test_the_gpu_and_the_memory_that_it_draws_from_are_two_rows(tmp_path: Path) -> None:
    async with house(tmp_path, gpu={"margin_gb": 0.5}).open() as h, h.client() as lmxd:
        gpu, memory = (await lmxd.devices()).devices
        assert (gpu.id, gpu.kind, gpu.pool, gpu.capacity, gpu.margin) == ("GPU-a", "gpu", "memory", RAM, 0)
        assert (memory.id, memory.kind, memory.views) == ("memory", "pool", ["GPU-a"])
        assert (memory.capacity, memory.margin) == (RAM, GIB // 2)
        assert gpu.headroom == memory.headroom, "no more than the pool has"
        why = await lmxd.why("GPU-a")
        owned = sum(x.bytes for x in why.instances) + gpu.margin + why.withheld
        assert why.device.capacity == owned + why.device.foreign + why.device.headroom + why.device.beyond_pool


async def test_an_instance_is_charged_once_and_told_the_gpu_alone(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        lease = await lmxd.request("a")
        size = int(SIZE * GIB)
        assert lease.devices == {"GPU-a": size}
        launched = h.launched("a#1")
        assert launched is not None
        assert h.env(launched)["CUDA_VISIBLE_DEVICES"] == "GPU-a"
        (instance,) = (await lmxd.instances()).instances
        assert instance.promised == {"GPU-a": size}
        charged = {a.device: a.charged for a in h.state.ledger.accounts.values()}
        assert charged["GPU-a"] == size <= charged["memory"]
        assert [x.instance for x in (await lmxd.why("memory")).instances] == ["a#1"]
        text = generate_latest(h.daemon.metrics.registry).decode()
        assert 'lmxd_charged_bytes{device="GPU-a",model="a"}' in text
        assert 'lmxd_charged_bytes{device="memory"' not in text
        assert 'lmxd_device_bytes{class="capacity",device="memory"}' not in text
        assert 'lmxd_pool_bytes{class="capacity",pool="memory"}' in text
        assert 'lmxd_device_pool{device="GPU-a",pool="memory"} 1.0' in text


async def test_a_hold_of_the_gpu_is_of_the_memory_too(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        held = await lmxd.hold(GIB // 4, hold="explicit")
        assert (held.devices, held.cuda_visible_devices) == ({"GPU-a": GIB // 4}, "GPU-a")
        assert h.state.ledger.accounts["memory"].charged >= GIB // 4
        of_memory = await lmxd.hold(GIB // 4, device="memory", hold="explicit")
        assert (of_memory.devices, of_memory.cuda_visible_devices) == ({"memory": GIB // 4}, "")
        assert h.state.ledger.accounts["memory"].charged >= GIB // 2


async def test_ram_and_the_gpu_do_not_promise_the_same_bytes(tmp_path: Path) -> None:
    async with house(tmp_path, gpu={"devices": ["GPU-a", "host"]}).open() as h, h.client() as lmxd:
        gpu, host, memory = (await lmxd.devices()).devices
        assert (gpu.pool, host.pool, memory.views) == ("memory", "memory", ["GPU-a", "host"])
        most = memory.headroom - GIB // 8
        await lmxd.hold(most, device="GPU-a", hold="explicit")
        with pytest.raises(LmxdError) as refused:
            await lmxd.hold(GIB // 2, device="host", wait=0)
        assert refused.value.code == "no_capacity"
        assert "on memory, from which GPU-a and host draw" in refused.value.message
        assert refused.value.data["shortfalls"][0]["views"] == ["GPU-a", "host"]


async def test_bytes_are_given_away_of_the_memory(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        begun = await lmxd.yield_(RAM // 8, lasts=60)
        assert begun.device == "memory"
        gpu, memory = (await lmxd.devices()).devices
        assert gpu.yielded == 0
        assert 0 < memory.yielded <= RAM // 8, "this machine's other programs may have taken some of it since"
        assert gpu.headroom <= memory.headroom


async def test_what_never_fits_is_said_of_the_memory(tmp_path: Path) -> None:
    models = {"a": {"estimated_memory_gb": RAM / GIB - 0.01}}
    async with house(tmp_path, models=models).open() as h, h.client() as lmxd:
        with pytest.raises(LmxdError) as refused:
            await lmxd.request("a")
        assert refused.value.code == "never_fits"
        assert "GiB on memory" in refused.value.message


async def test_the_next_daemon_charges_the_same(tmp_path: Path) -> None:
    h = house(tmp_path)
    async with h.open(stays=True), h.client() as lmxd:
        await lmxd.request("a", hold="explicit")
        before = {a.device: {n: r.promised for n, r in a.reservations.items()} for a in _accounts(h)}
    async with h.open(), h.client() as lmxd:
        assert {a.device: {n: r.promised for n, r in a.reservations.items()} for a in _accounts(h)} == before
        assert set(before) == {"GPU-a", "memory"}
        assert not (await lmxd.status()).broken_invariants


def _accounts(h: House) -> Any:
    return h.state.ledger.accounts.values()


@pytest.mark.parametrize("restarts", [True, False])
async def test_the_memory_of_a_gpu_that_does_not_answer_is_not_promised_in_ram(tmp_path: Path, restarts: bool) -> None:
    """Its driver fails when lmxd starts again, or reads its configuration again: nothing says that there is a pool."""
    h = house(tmp_path, gpu={"devices": [0, "host"]})
    most = RAM // 2
    async with h.open(stays=restarts), h.client() as lmxd:
        await lmxd.hold(most, device="GPU-a", hold="explicit", wait=0)
        h.nvml.init_fault = 9
        if not restarts:
            await lmxd.reload()
            await _ram_is_full(h)
    if restarts:
        async with h.open():
            await _ram_is_full(h)


async def _ram_is_full(h: House) -> None:
    async with h.client() as lmxd:
        assert [(d.id, d.pool, d.unavailable is None) for d in (await lmxd.devices()).devices] == [
            ("0", None, False),
            ("host", "memory", True),
            ("memory", None, True),
        ]
        with pytest.raises(LmxdError) as refused:
            await lmxd.hold(int(RAM * 0.49), device="host", wait=0)
        assert refused.value.code == "no_capacity"
        h.nvml.init_fault = None
        h.nvml.cards[0].faults = {"Memory": 3, "Memory_v2": 3}

        async def seen() -> bool:
            return [d.id for d in (await lmxd.devices()).devices] == ["GPU-a", "host", "memory"]

        await until(seen)
        charged = {a.device: a.charged for a in _accounts(h)}
        assert charged["GPU-a"] == charged["memory"]
        assert not (await lmxd.status()).broken_invariants
