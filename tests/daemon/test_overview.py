"""Everything that a screen shows, of one look at the devices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from devices.fake_nvml import FakeNvml
from gateway.front import opened
from house import House, card


@pytest.mark.parametrize("cards", [0, 1, 4])
async def test_the_devices_are_measured_once(tmp_path: Path, cards: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``status`` and ``why`` of each device it was 1 + N times; and again for the list of models."""
    models: dict[str, Any] = {f"m{number}": {} for number in range(20)}
    house = House(tmp_path, FakeNvml(*(card(uuid=f"GPU-{n}") for n in range(cards))), models=models)
    async with house.open(), house.client() as client:
        looks = []
        look = house.daemon.measuring.watcher.look

        async def counted(pids: set[int]) -> object:
            looks.append(pids)
            return await look(pids)

        monkeypatch.setattr(house.daemon.measuring.watcher, "look", counted)
        found = await client.overview()
        assert len((await client.models()).models) == 20
        assert len(looks) == 1
        assert [why.device.id for why in found.owners] == [d.id for d in found.status.devices]
        assert len(found.owners) == max(1, cards)


async def test_the_dashboard_asks_for_all_of_it_at_once(tmp_path: Path) -> None:
    async with opened(House(tmp_path, FakeNvml(card()), models={"a": {"estimated_memory_gb": 3}})) as front:
        await front.chat("a")
        async with front.house.client() as client:
            found = await client.overview()
            (model,) = (await client.models()).models
        assert [i.instance for i in found.instances] == [o.instance for o in found.owners[0].instances] == ["a#1"]
        assert model.fit is not None
        assert (model.fit.when, found.queue) == ("now", [])
