"""Whole histories on three cards of which two fail at random moments, go and come back, while instances come and go."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from devices.fake_nvml import Card, FakeNvml, Handle
from house import House, card, model
from waiting import until

from lmxd.errors import LmxdError
from lmxd.instances import proc
from lmxd.rpc.client import AsyncClient
from lmxd.rpc.messages import Granted

GIB = 2**30
ON_GPU = ["load_tensors:      CUDA0 model buffer size =  4155.99 MiB"]
CODES = [1, 2, 3, 4, 6, 9, 13, 15, 16, 18, 25, 999]
SIZES = {"a": 5, "b": 9}
FOREIGN = {"GPU-a": 1, "GPU-b": 2, "GPU-c": 3}


class Machine(FakeNvml):
    """Cards that show the processes of a house where their environment put them. The first card is well."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__(*(card(24, uuid) for uuid in FOREIGN))
        self.every = list(self.cards)
        self.chance = chance
        self.rate = 0.0
        self.house: House | None = None
        self.random = self._at_random

    def _at_random(self, call: str, failing: Card | None) -> int | None:
        if failing is None or failing is self.every[0] or self.chance.random() >= self.rate:
            return None
        return self.chance.choice(CODES)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: Handle) -> list[SimpleNamespace]:
        shown = handle.card
        shown.processes = {1000 + FOREIGN[shown.uuid]: FOREIGN[shown.uuid] * GIB}
        launched = self.house.daemon.launches.pids() if self.house is not None else {}
        for name, pid in launched.items():
            with suppress(OSError):
                if proc.environment(pid).get("CUDA_VISIBLE_DEVICES") == shown.uuid:
                    shown.processes[pid] = SIZES[name.split("#")[0]] * GIB
        return super().nvmlDeviceGetComputeRunningProcesses(handle)

    def comes_or_goes(self) -> None:
        """A card is taken out, or put back; the others change their places."""
        moving = self.chance.choice(self.every[1:])
        if moving in self.cards:
            self.cards.remove(moving)
        else:
            self.cards.insert(self.chance.randrange(len(self.cards) + 1), moving)


async def act(house: House, machine: Machine, lmxd: AsyncClient, had: list[Granted]) -> None:
    """One thing that happens."""
    match machine.chance.choice(["ask", "ask", "ask", "release", "release", "fail", "well", "moves", "reload"]):
        case "ask":
            with suppress(LmxdError):
                had.append(await lmxd.request(machine.chance.choice("ab"), wait=0))
        case "release" if had:
            lease = had.pop(machine.chance.randrange(len(had)))
            with suppress(LmxdError):  # it ended with its instance
                await lmxd.release(lease.lease)
        case "fail":
            machine.rate = machine.chance.choice([0.05, 0.3, 1.0])
        case "well":
            machine.rate = 0.0
        case "moves":
            machine.comes_or_goes()
        case "reload":
            await lmxd.reload()


async def check(house: House, lmxd: AsyncClient) -> None:
    """The healthy card is there, no byte is taken for another's, and every instance runs where its lease says."""
    devices = {d.id: d for d in (await lmxd.devices()).devices}
    assert devices["GPU-a"].unavailable is None
    for name in FOREIGN.keys() & devices.keys():
        if devices[name].unavailable is None:
            assert (devices[name].capacity, devices[name].foreign) == (24 * GIB, FOREIGN[name] * GIB), name
    assert not [d for d in devices.values() if d.unavailable is None and d.id not in FOREIGN]
    for instance in house.state.instances.values():
        launched = house.launched(instance.id)
        if launched is not None and launched.process is not None and instance.live:
            (where,) = instance.demand
            assert house.env(launched)["CUDA_VISIBLE_DEVICES"] == where
    assert (await lmxd.status()).broken_invariants == []


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_fails_is_the_fault_of_its_card_alone(tmp_path: Path, seed: int) -> None:
    machine = Machine(random.Random(seed))
    for name in SIZES:
        model(tmp_path, name, buffers=ON_GPU)
    made = House(tmp_path, machine, models={name: {"estimated_memory_gb": size} for name, size in SIZES.items()})
    async with made.open() as house, house.client() as lmxd:
        machine.house = house
        had: list[Granted] = []
        for _ in range(25):
            await act(house, machine, lmxd, had)
            await check(house, lmxd)
        machine.rate, machine.cards = 0.0, list(machine.every)

        async def all_are_well() -> bool:
            found = (await lmxd.devices()).devices
            return {d.id for d in found if d.unavailable is None} == FOREIGN.keys() and len(found) == len(FOREIGN)

        await lmxd.reload()
        await until(all_are_well)
        for lease in had:
            with suppress(LmxdError):
                await lmxd.release(lease.lease)
        await asyncio.gather(*(lmxd.request("b") for _ in range(4)))
        await check(house, lmxd)
