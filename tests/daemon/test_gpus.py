"""The daemon on GPUs that NVML (a fake with behaviour) reports: foreign use, faults, placement, silent falls."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from devices.fake_nvml import Card, FakeNvml
from devices.machines import of_a_container, on_the_bus
from house import House, card, model
from waiting import until

from lmxd.core.words import InstanceId
from lmxd.daemon.answering.asks import FRESH
from lmxd.errors import LmxdError
from lmxd.rpc.notifications import Progress

GIB = 2**30
ON_GPU = ["load_tensors:      CUDA0 model buffer size =  4155.99 MiB"]


def house(tmp_path: Path, nvml: FakeNvml, gib: float = 8, **sections: object) -> House:
    for name in "ab":
        model(tmp_path, name, buffers=ON_GPU)
    return House(
        tmp_path,
        nvml,
        **({"models": {"a": {"estimated_memory_gb": gib}, "b": {"estimated_memory_gb": gib}}} | sections),
    )


@pytest.mark.parametrize(
    ("capacity", "margin"), [(80, 2.0), (24, 2.0), (20, 2.0), (16, 1.6), (8, 0.8), (4.75, 0.5), (4, 0.5)]
)
async def test_a_tenth_is_left_alone_when_nothing_is_said_from_half_a_gib_to_two(
    tmp_path: Path, capacity: float, margin: float
) -> None:
    nvml = FakeNvml(replace(card(1), total=int(capacity * GIB)))
    async with house(tmp_path, nvml, gib=1).open() as h, h.client() as lmxd:
        (device,) = (await lmxd.devices()).devices
        assert (device.capacity, device.margin) == (int(capacity * GIB), int(margin * GIB))
        assert device.headroom == device.capacity - device.margin


@pytest.mark.parametrize("limit", [None, 20])
async def test_a_limit_is_raised_where_there_is_one(tmp_path: Path, limit: float | None) -> None:
    said = {} if limit is None else {"max_memory_gb": limit}
    async with house(tmp_path, FakeNvml(card(24)), gib=100, gpu=said).open() as h, h.client() as lmxd:
        with pytest.raises(LmxdError) as refused:
            await lmxd.request("a")
        for remedy in (refused.value.remedy, (await lmxd.plan("a")).remedy):
            assert ("raise max_memory_gb" in (remedy or "")) is (limit is not None)


@pytest.mark.parametrize(("said", "margin"), [(20, 2), (23, 1), (24, 0), (99, 0)])
async def test_a_limit_may_reach_into_the_margin(tmp_path: Path, said: float, margin: int) -> None:
    async with house(tmp_path, FakeNvml(card(24)), gpu={"max_memory_gb": said}).open() as h, h.client() as lmxd:
        (device,) = (await lmxd.devices()).devices
        assert (device.limit, device.margin) == (said * GIB, margin * GIB)
        assert device.headroom == min(said, 24) * GIB


async def test_the_gpu_is_named_by_uuid_to_the_engine(tmp_path: Path) -> None:
    nvml = FakeNvml(card(24, "GPU-a"), card(24, "GPU-b"))
    async with house(tmp_path, nvml, gpu={"device": 1}).open() as h, h.client() as lmxd:
        lease = await lmxd.request("a")
        assert lease.devices == {"GPU-b": 8 * GIB}
        launched = h.launched("a#1")
        assert launched is not None
        assert h.env(launched)["CUDA_VISIBLE_DEVICES"] == "GPU-b"
        assert h.env(launched)["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


async def test_foreign_memory_is_seen_and_waited_for(tmp_path: Path) -> None:
    nvml = FakeNvml(card(24))
    nvml.cards[0].processes = {4711: 18 * GIB}
    async with house(tmp_path, nvml).open() as h, h.client() as lmxd:
        (device,) = (await lmxd.devices()).devices
        assert device.foreign == 18 * GIB
        told: list[Progress] = []
        request = asyncio.create_task(lmxd.request("a", on_progress=told.append))
        await h.until(lambda: bool(told))
        assert [x.name for x in told[0].shortfalls[0].holders] == ["foreign"]
        nvml.cards[0].processes = {}
        assert (await asyncio.wait_for(request, 10)).instance == "a#1"


async def test_what_nvml_attributes_to_our_process_is_charged(tmp_path: Path) -> None:
    nvml = FakeNvml(card(24))
    async with house(tmp_path, nvml).open() as h, h.client() as lmxd:
        await lmxd.request("a")
        pid = h.daemon.launches.pids()[InstanceId("a#1")]
        nvml.cards[0].processes = {pid: 9 * GIB, 4711: GIB}
        (device,) = (await lmxd.devices()).devices
        assert (device.charged, device.foreign) == (9 * GIB, GIB)


async def test_pids_of_another_namespace_are_not_taken_for_foreign(tmp_path: Path) -> None:
    nvml = FakeNvml(card(24))
    made = house(tmp_path, nvml)
    made.roots = replace(made.roots, proc=of_a_container(tmp_path))
    async with made.open() as h, h.client() as lmxd:
        await lmxd.request("a")
        nvml.cards[0].processes = {999_999: 8 * GIB}
        (device,) = (await lmxd.devices()).devices
        assert (device.charged, device.foreign, device.headroom) == (8 * GIB, 0, 14 * GIB)


async def test_a_lost_gpu_pauses_admission_and_the_lease_lives_on(tmp_path: Path) -> None:
    nvml = FakeNvml(card(24))
    async with house(tmp_path, nvml).open() as h, h.client() as lmxd:
        await lmxd.request("a")
        nvml.cards[0].fault = 15
        (device,) = (await lmxd.devices()).devices
        assert device.unavailable == "NVML: GPU is lost"
        with pytest.raises(LmxdError, match="is unavailable") as caught:
            await lmxd.request("b", wait=0)
        assert caught.value.code == "no_capacity"
        request = asyncio.create_task(lmxd.request("b"))
        await h.until(lambda: len(h.state.queue) == 1)
        assert h.phases() == {"a#1": "ready"}
        nvml.cards[0].fault = None
        assert (await asyncio.wait_for(request, 15)).instance == "b#1"


async def test_a_mismatched_driver_at_the_start_pauses_and_recovers(tmp_path: Path) -> None:
    nvml = FakeNvml(card(24))
    nvml.init_fault = 18
    async with house(tmp_path, nvml).open() as h, h.client() as lmxd:
        assert "mismatch" in str((await lmxd.devices()).devices[0].unavailable)
        request = asyncio.create_task(lmxd.request("a"))
        await h.until(lambda: len(h.state.queue) == 1)
        nvml.init_fault = None
        assert (await asyncio.wait_for(request, 15)).devices == {"GPU-a": 8 * GIB}


async def test_a_hung_driver_pauses_admission(tmp_path: Path) -> None:
    import threading

    nvml = FakeNvml(card(24))
    async with house(tmp_path, nvml).open() as h, h.client() as lmxd:
        h.daemon.measuring.watcher.deadline = 0.1
        nvml.hang = threading.Event()
        assert "hangs" in str((await lmxd.devices()).devices[0].unavailable)
        with pytest.raises(LmxdError, match="is unavailable"):
            await lmxd.request("a", wait=0)
        nvml.hang.set()
        assert (await asyncio.wait_for(lmxd.request("a"), 15)).instance == "a#1"


async def test_a_silent_fall_to_the_cpu_is_a_failed_launch(tmp_path: Path) -> None:
    made = house(tmp_path, FakeNvml(card(24)))
    model(
        tmp_path,
        "a",
        buffers=["load_tensors:   CPU_Mapped model buffer size =  4155.99 MiB", "offloaded 33/33 layers to GPU"],
    )
    async with made.open() as h, h.client() as lmxd:
        with pytest.raises(LmxdError) as caught:
            await lmxd.request("a")
        assert caught.value.data["failure"]["code"] == "misplaced"
        assert "CPU_Mapped" in caught.value.message
        await h.until(lambda: not h.phases())


@pytest.mark.parametrize("said", [{"device": 0}, {}])
async def test_a_driver_that_comes_late_is_waited_for_and_ram_never_takes_its_place(
    tmp_path: Path, said: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    nvml = FakeNvml(card(24))
    nvml.init_fault = 9
    made = house(tmp_path, nvml, gpu=said)
    on_the_bus(made.roots.sys, "0000:01:00.0", driver="")
    async with made.open() as h, h.client() as lmxd:
        status = await lmxd.status()
        (device,) = status.devices
        assert (device.kind, device.unavailable) == ("gpu", "NVML: Driver Not Loaded")
        assert "modprobe nvidia" in device.remedy
        assert any("modprobe nvidia" in w for w in status.warnings)
        with pytest.raises(LmxdError) as refused:
            await lmxd.request("a", wait=0)
        assert "modprobe nvidia" in (refused.value.remedy or "")
        assert "smaller context" not in (refused.value.remedy or "")
        assert "no room" not in refused.value.message, "it is not a matter of bytes"
        assert "no room" not in (await lmxd.plan("a")).why
        request = asyncio.create_task(lmxd.request("a"))
        await h.until(lambda: len(h.state.queue) == 1)
        nvml.init_fault = None
        assert (await asyncio.wait_for(request, 15)).devices == {"GPU-a": 8 * GIB}
        assert [w for w in (await lmxd.status()).warnings if "unavailable" in w] == []
    told = [r.getMessage() for r in caplog.records if "modprobe nvidia" in r.getMessage()]
    assert len(told) == 1, "the log tells it once"


async def test_without_any_gpu_models_run_in_ram_and_status_says_so(tmp_path: Path) -> None:
    async with house(tmp_path, FakeNvml(), models={"a": {"estimated_memory_gb": 0.01}}).open() as h, h.client() as lmxd:
        status = await lmxd.status()
        assert [d.id for d in status.devices] == ["host"]
        assert any("no GPU" in w and "CPU" in w for w in status.warnings)


async def test_a_card_and_a_slice_that_come_while_lmxd_runs_are_taken_in(tmp_path: Path) -> None:
    nvml = FakeNvml(card(24))
    made = house(tmp_path, nvml)
    on_the_bus(made.roots.sys, "0000:01:00.0")
    async with made.open() as h, h.client() as lmxd:
        await lmxd.request("a")
        nvml.cards.append(Card("GPU-b", 40 * GIB, slices=[Card("MIG-1", 20 * GIB)]))
        on_the_bus(made.roots.sys, "0000:41:00.0")

        async def seen(*ids: str) -> bool:
            return [d.id for d in (await lmxd.devices()).devices] == list(ids)

        await until(lambda: seen("GPU-a", "MIG-1"))
        assert h.phases() == {"a#1": "ready"}
        assert set((await lmxd.request("b")).devices) == {"GPU-a"}, "the best fit"


async def test_what_loads_in_a_container_is_not_counted_twice(tmp_path: Path) -> None:
    """NVML names the host's pids: what an instance takes while it loads is neither foreign nor promised once more."""
    nvml = FakeNvml(card(24))
    made = house(tmp_path, nvml)
    made.roots = replace(made.roots, proc=of_a_container(tmp_path))
    model(tmp_path, "a", buffers=ON_GPU, load_seconds=3600)
    nvml.cards[0].processes = {999_998: 3 * GIB}
    async with made.open() as h, h.client() as lmxd:
        request = asyncio.create_task(lmxd.request("a"))
        await h.until(lambda: h.phases() == {"a#1": "starting"})
        nvml.cards[0].processes = {999_998: 3 * GIB, 999_999: 7 * GIB}
        (device,) = (await lmxd.devices()).devices
        assert (device.charged, device.foreign, device.headroom) == (8 * GIB, 3 * GIB, 11 * GIB)
        request.cancel()


async def test_a_ready_instance_without_bytes_leaves_the_others_their_figures(tmp_path: Path) -> None:
    nvml = FakeNvml(card(40))
    async with house(tmp_path, nvml).open() as h, h.client() as lmxd:
        await lmxd.request("a")
        await lmxd.request("b")
        pid = h.daemon.launches.pids()[InstanceId("a#1")]
        nvml.cards[0].processes = {pid: 9 * GIB}
        (device,) = (await lmxd.devices()).devices
        assert (device.charged, device.foreign) == (17 * GIB, 0)
        assert h.state.ledger.measured("a#1") == {"GPU-a": 9 * GIB}
        nvml.cards[0].other = GIB
        assert (await lmxd.devices()).devices[0].foreign == GIB


async def test_a_model_without_gpu_layers_goes_to_ram_where_that_is_a_device(tmp_path: Path) -> None:
    made = house(tmp_path, FakeNvml(card(24)), gpu={"devices": [0, "host"]})
    made.write(models={"a": {"gpu_layers": 0}, "b": {}})
    async with made.open() as h, h.client() as lmxd:
        in_ram, on_gpu = await lmxd.request("a"), await lmxd.request("b")
        assert set(in_ram.devices) == {"host"}
        assert set(on_gpu.devices) == {"GPU-a", "host"}, "its share of RAM is booked too"
        launched = h.launched("a#1")
        assert launched is not None
        assert ("--device", "none") in zip(h.argv(launched), h.argv(launched)[1:], strict=False)


async def test_foreign_memory_taken_a_moment_ago_is_seen(tmp_path: Path) -> None:
    nvml = FakeNvml(card(24))
    async with house(tmp_path, nvml).open() as h, h.client() as lmxd:
        await lmxd.devices()
        nvml.cards[0].processes = {4711: 18 * GIB}
        await h.until(lambda: time.monotonic() - h.daemon.present.begun > FRESH)
        with pytest.raises(LmxdError, match="held by foreign"):
            await lmxd.request("a", wait=0)


async def test_every_byte_of_a_device_has_an_owner(tmp_path: Path) -> None:
    nvml = FakeNvml(card(24))
    nvml.cards[0].processes = {os.getpid(): 3 * GIB, 2**22 + 1: GIB}  # the second is more than pid_max
    async with house(tmp_path, nvml, gpu={"max_memory_gb": 18}).open() as h, h.client() as lmxd:
        await lmxd.request("a")
        launched = h.launched("a#1")
        assert launched is not None
        assert launched.process is not None
        nvml.cards[0].processes[launched.process.pid] = 9 * GIB
        found = await lmxd.why("0")
        assert [(x.instance, x.bytes, x.promised, x.measured, x.exited) for x in found.instances] == [
            ("a#1", 9 * GIB, 8 * GIB, 9 * GIB, False)
        ]
        mine = Path("/proc/self/comm").read_text().strip()
        assert [(x.name, x.bytes) for x in found.processes] == [(mine, 3 * GIB), ("?", GIB)]
        d = found.device
        assert (d.foreign, d.margin, found.withheld, d.headroom) == (4 * GIB, 2 * GIB, 0, 9 * GIB)
        nvml.cards[0].processes = {launched.process.pid: 9 * GIB}
        found = await lmxd.why(found.device.id[:5])
        d = found.device
        assert (found.processes, d.foreign, found.withheld) == ([], 0, 4 * GIB)
        assert d.capacity == sum(x.bytes for x in found.instances) + d.margin + found.withheld + d.headroom


async def test_why_names_the_devices_there_are(tmp_path: Path) -> None:
    nvml = FakeNvml(card(24, "GPU-aa"), card(24, "GPU-ab"))
    async with house(tmp_path, nvml).open() as h, h.client() as lmxd:
        assert (await lmxd.why("GPU-ab")).device.ref == "1"
        for wanted, said in (("7", "there is none"), ("GPU-a", "begins the names of 0 ")):
            with pytest.raises(LmxdError, match=said) as caught:
                await lmxd.why(wanted)
            assert caught.value.code == "invalid_params"
            assert "1 (GPU-ab)" in caught.value.remedy


@pytest.mark.parametrize("device", [None, "0", "0000:01:00.0"])
@pytest.mark.parametrize("shared", [False, True])
async def test_a_hold_that_waits_for_a_driver_has_its_bytes_when_it_comes(
    tmp_path: Path, device: str | None, shared: bool
) -> None:
    """Until then, the GPU has another name, and nobody knows whether it draws from a pool."""
    late = Card("GPU-a", 0, faults={"Memory": 3, "Memory_v2": 3}) if shared else card(24)
    nvml = FakeNvml(late)
    nvml.init_fault = 9
    made = house(tmp_path, nvml)
    on_the_bus(made.roots.sys, "0000:01:00.0", driver="")
    async with made.open() as h, h.client() as lmxd:
        request = asyncio.create_task(lmxd.hold(GIB // 8, device=device))
        await h.until(lambda: len(h.state.queue) == 1)
        nvml.init_fault = None
        assert (await asyncio.wait_for(request, 30)).devices == {"GPU-a": GIB // 8}
        assert not (await lmxd.status()).broken_invariants
