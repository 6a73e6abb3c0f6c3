"""What instances really take is noted, kept over a restart, listed, used for the next, and forgotten when told to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import synthetic
from devices.fake_nvml import FakeNvml
from house import House, card

from lmxd.catalog.gpu_support import GpuSupport, cards
from lmxd.core.words import DeviceId, DeviceReading, Taken
from lmxd.daemon.learning.observations import Observations
from lmxd.daemon.learning.observer import Observer
from lmxd.devices.measurement import DeviceKind, Measurement
from lmxd.estimate.backends import Backend
from lmxd.estimate.cards import card_of
from lmxd.estimate.contexts import context, prior
from lmxd.estimate.learned import Card, Learned, Observation
from lmxd.gguf.footprint import Parts
from lmxd.rpc.estimates import Estimates
from lmxd.vendor import Vendor

MIB = 2**20


def observation(model: str = "m", loaded: int = 700) -> Observation:
    return Observation(
        card=Card(name="NVIDIA L4", driver="580", build="11434"),
        launch=model,
        file=model,
        model=model,
        buffers=100 * MIB,
        predicted=110 * MIB,
        loaded=loaded * MIB,
        prompted=0,
    )


def resized(seen: Observation, sizes: Mapping[str, int]) -> Observation:
    """The same with other figures, in MiB."""
    changed: dict[str, Any] = {name: size * MIB for name, size in sizes.items()}
    return replace(seen, **changed)


def test_they_last(tmp_path: Path) -> None:
    path = tmp_path / "state" / "observations.json"
    first = Observations(path)
    first.note(observation())
    first.note(observation(loaded=710))
    (kept,) = Observations(path).learned.observations
    assert (kept.loaded, kept.count) == (710 * MIB, 2)
    assert first.forget(lambda o: o.model == "m") == 1
    assert first.forget(lambda _: True) == 0
    assert Observations(path).learned.observations == ()


def test_a_file_of_an_earlier_version_is_read_and_its_figures_win(tmp_path: Path) -> None:
    """It had only CUDA's cards, without their multiprocessors."""
    path = tmp_path / "observations.json"
    old = asdict(observation())
    old["card"] = {name: old["card"][name] for name in ("name", "driver", "build")}
    path.write_text(json.dumps({"version": 1, "observations": [old]}))
    here = card_of("NVIDIA L4", driver="580", build="11434", cores=7424, compute=(8, 9))
    assert context(here, Observations(path).learned).source == "learned from 1 launch"
    assert context(replace(here, backend=Backend.VULKAN), Observations(path).learned).source.startswith("a guess")


def test_a_card_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "observations.json"
    seen = replace(observation(), card=card_of("NVIDIA L4", driver="580", build="11434", cores=7424, compute=(8, 9)))
    other = replace(observation("n"), card=card_of("Radeon", vendor=Vendor.AMD, build="11434"))
    written = Observations(path)
    written.note(seen)
    written.note(other)
    assert Observations(path).learned.observations == (seen, other)


@pytest.mark.parametrize("content", ["", "[]", '{"version": 9}', '{"version": 1, "observations": [{"loaded": -1}]}'])
def test_a_file_that_cannot_be_used_is_set_aside(tmp_path: Path, content: str) -> None:
    path = tmp_path / "observations.json"
    path.write_text(content)
    found = Observations(path)
    assert found.learned.observations == ()
    assert (tmp_path / "observations.json.unusable").read_text() == content
    found.note(observation())
    assert len(json.loads(path.read_text())["observations"]) == 1


@pytest.mark.parametrize(
    "absurd", [{"buffers": 99999}, {"loaded": 10**6}, {"prompted": 10**6}, {"predicted": 10**6}, {"loaded": 0}]
)
def test_what_cannot_be_is_not_learned_and_forgotten_if_it_was(tmp_path: Path, absurd: dict[str, int]) -> None:
    """Model text once made it 99,999 MiB of buffers; the estimate of another model became -198,908 MiB."""
    path = tmp_path / "observations.json"
    first = Observations(path)
    sizes = {"buffers": 9000, "predicted": 9000, "loaded": 9600, "prompted": 9700}
    good = resized(observation(), sizes)
    bad = resized(replace(good, launch="bad"), absurd)
    first.note(good)
    before = first.learned
    first.note(bad)
    assert first.learned == before
    with pytest.raises(AssertionError):
        Learned((bad,))
    document = json.loads(path.read_text())
    document["observations"].append(asdict(bad))
    path.write_text(json.dumps(document))
    assert Observations(path).learned == before, "an old file's absurd row is forgotten, the others stay"


def test_no_estimate_has_negative_parts() -> None:
    with pytest.raises(AssertionError, match="negative"):
        Parts(weights=5, overhead=-1)


def test_a_directory_that_cannot_be_written_costs_nothing_but_a_warning(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    found = Observations(tmp_path / "state" / "observations.json")
    found.note(observation())
    assert len(found.learned.observations) == 1


async def _learned(house: House) -> Estimates:
    async with house.client() as client:
        return await client.estimates()


async def test_an_instance_on_a_gpu_is_noted_and_the_next_is_promised_less(tmp_path: Path) -> None:
    """The fake takes 350 MiB of the fake card: a context of some 340, where the prior has 596."""
    gpu = card(24)
    house = House(tmp_path, FakeNvml(gpu), models={"m": {"context_length": 2048}})
    async with house.open(), house.client() as client:
        before = await client.estimate("m")
        lease = await client.request("m")
        pid = next(i.pid for i in (await client.instances()).instances)
        assert pid is not None
        gpu.processes = {pid: 350 * MIB}
        await house.daemon.measuring.look()
        (seen,) = (await _learned(house)).observed
        assert (seen.model, seen.loaded, seen.count) == ("m", 350 * MIB, 1)
        (here,) = (await _learned(house)).contexts
        assert here.bytes == seen.loaded - seen.buffers
        assert here.source == "learned from 1 launch"
        after = await client.estimate("m", ctx=4096)
        assert after.error < before.error
        assert after.devices[0]["overhead"] < before.devices[0]["overhead"]
        assert [c["source"] for c in (*before.contexts, *after.contexts)] == [
            "prior of an H100: nothing is known of this card",
            "learned from 1 launch",
        ]
        await client.release(lease.lease)
    async with house.open():
        assert len((await _learned(house)).observed) == 1, "kept over a restart"


@pytest.mark.parametrize(("name", "context"), [("NVIDIA GeForce RTX 4070", 206), ("NVIDIA Fake", 596)])
async def test_a_card_of_twelve_gib_is_charged_its_own_context(tmp_path: Path, name: str, context: int) -> None:
    """It was 596 MiB, plus or minus 480, for each instance on any card."""
    gpu = replace(card(12), name=name)
    house = House(tmp_path, FakeNvml(gpu), models={"m": {"context_length": 2048}})
    async with house.open(), house.client() as client:
        found = await client.estimate("m")
        (device,) = found.devices
        await client.request("m")
        (instance,) = (await client.instances()).instances
        assert instance.promised == {gpu.uuid: device["total"]}
        assert found.contexts[0]["bytes"] == context * MIB
        assert 0 <= device["overhead"] - context * MIB < 100 * MIB, "and what the first long prompt fetches"


@pytest.mark.parametrize(
    ("vendor", "backends", "said"),
    [
        (Vendor.NVIDIA, None, "prior of compute 8.9, 46 SMs"),
        (Vendor.NVIDIA, [Backend.VULKAN], "a guess for Vulkan"),
        (Vendor.AMD, None, "prior of ROCm"),
        (Vendor.AMD, [Backend.VULKAN], "a guess for Vulkan"),
        (Vendor.INTEL, None, "a guess for SYCL"),
        (None, None, "prior of an H100"),
    ],
)
def test_the_figures_of_a_measured_card_choose_its_prior(
    vendor: Vendor | None, backends: list[Backend] | None, said: str
) -> None:
    cuda = vendor is Vendor.NVIDIA
    gpu = Measurement(
        id="GPU-a",
        ref="0",
        kind=DeviceKind.GPU,
        name="A card",
        vendor=vendor,
        cores=5888 if cuda else 0,
        compute=(8, 9) if cuda else None,
    )
    ram = Measurement(id="host", ref="host", kind=DeviceKind.HOST, name="RAM")
    usable = GpuSupport(backends=None if backends is None else frozenset(backends))
    ((device, found),) = cards([gpu, ram], usable, "11434").items()
    assert device == "GPU-a"
    assert prior(found).source.startswith(said)


async def test_what_an_instance_takes_while_it_loads_is_not_taken_for_all(tmp_path: Path) -> None:
    """A look that began before readiness sees weights still on their way; it must not become the context."""
    gpu = card(24)
    house = House(tmp_path, FakeNvml(gpu), models={"m": {"context_length": 2048}})
    async with house.open(), house.client() as client:
        lease = await client.request("m")
        launched = house.launched(lease.instance)
        assert launched is not None
        assert launched.process is not None
        assert launched.ready_at is not None
        observer = Observer(house.daemon.learning.observations)
        taken = {launched.instance: Taken(total=100 * MIB, visible=100 * MIB)}
        reading = DeviceReading(device=DeviceId(gpu.uuid), taken=taken)
        house.daemon.learning.observations.forget(lambda _: True)

        def loaded() -> list[int]:
            return [seen.loaded for seen in house.daemon.learning.observations.learned.observations]

        observer.see(launched.ready_at - 0.001, [reading], house.daemon.launches, house.daemon.catalog)
        assert loaded() == []
        observer.see(launched.ready_at + 0.001, [reading], house.daemon.launches, house.daemon.catalog)
        assert loaded() == [100 * MIB]


@pytest.mark.parametrize(
    "name", ["C model buffer size = 99999 MiB", "x\nload_tensors: CUDA0 model buffer size = 9.00 MiB"]
)
async def test_a_models_own_text_changes_no_others_estimate(tmp_path: Path, name: str) -> None:
    """llama-server prints the name as it is; an innocent model's estimate once became -198,908 MiB by it."""
    found: list[tuple[int, int]] = []
    for directory, text in ((tmp_path / "honest", "a name"), (tmp_path / "evil", name)):
        directory.mkdir()
        printed = f"0.00.007.141 I print_info: general.name = {text}".split("\n")
        metadata, tensors = synthetic.decoder(
            "llama", layers=2, embedding=64, heads=4, kv_heads=2, feed_forward=128, vocabulary=100, head=32,
            context=32768,
        )  # fmt: skip
        path = synthetic.write(directory / "m.gguf", metadata | {"general.name": text}, tensors)
        path.with_suffix(".json").write_text(json.dumps({"buffers": printed}))
        gpu = card(24)
        models = {"m": {"context_length": 2048}, "n": {"context_length": 2048}}
        house = House(directory, FakeNvml(gpu), models=models)
        async with house.open(), house.client() as client:
            await client.request("m")
            pid = next(i.pid for i in (await client.instances()).instances)
            assert pid is not None
            gpu.processes = {pid: 350 * MIB}
            await house.daemon.measuring.look()
            (seen,) = (await _learned(house)).observed
            innocent = await client.estimate("n")
            found.append((seen.buffers, innocent.devices[0]["total"]))
            assert innocent.devices[0]["total"] > 0
    assert found[0] == found[1]


async def test_forgetting_brings_the_prior_back(tmp_path: Path) -> None:
    gpu = card(24)
    house = House(tmp_path, FakeNvml(gpu), models={"m": {"context_length": 2048}, "n": {"context_length": 2048}})
    async with house.open(), house.client() as client:
        before = await client.estimate("n")
        await client.request("m")
        pid = next(i.pid for i in (await client.instances()).instances)
        assert pid is not None
        gpu.processes = {pid: 350 * MIB}
        await house.daemon.measuring.look()
        assert (await client.estimate("n")).devices != before.devices
        assert (await client.forget(model="n")).count == 0
        assert (await client.forget(model="m")).count == 1
        assert (await client.estimate("n")).devices == before.devices
