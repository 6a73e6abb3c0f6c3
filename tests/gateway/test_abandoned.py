"""One cache is not overdrawn by answers that nobody waits for, nor by words of which no client says anything."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from devices.fake_nvml import FakeNvml
from house import House, card, model

from gateway.front import Front, opened

SHARE, SLOTS = 1024, 4
CELLS = SHARE * SLOTS


def house(tmp_path: Path, play: dict[str, Any]) -> House:
    """A model that has one cache of four times 1,024 tokens, and nothing larger."""
    model(tmp_path, "shared", counts=True, token_seconds=0.002, **play)
    elastic = {"start": SHARE, "steps": [CELLS]}
    shared = {"context_length": CELLS, "estimated_memory_gb": 9, "kv_unified": True, "slots": SLOTS, "elastic": elastic}
    return House(tmp_path, FakeNvml(card()), models={"shared": shared})


async def asked(front: Front, letter: str, prompt: int, **more: Any) -> int:
    body = {"model": "shared", "prompt": letter * prompt, "n_predict": 500, **more}
    return int((await front.ask("/completion", body)).status)


async def processing(front: Front) -> list[int]:
    """The slots in which its engine is at work."""
    answer = await front.ask("/upstream/shared/slots", method="GET")
    return [slot["id"] for slot in json.loads(answer.text) if slot["is_processing"]]


@pytest.mark.parametrize("more", [{}, {"id_slot": 1}])
async def test_the_cells_of_an_answer_whose_client_left_are_nobodys_until_it_is_over(
    tmp_path: Path, more: dict[str, int]
) -> None:
    """With ``id_slot``, the gateway does not choose the slot."""
    async with opened(h := house(tmp_path, {})) as front:
        leaving = asyncio.create_task(asked(front, "x", 2000, **more))
        while not await processing(front):
            assert not leaving.done()
        (left,) = (lease.id for lease in h.state.leases.values() if lease.slots == 3)
        leaving.cancel()
        assert await asked(front, "y", 2500) == 200
        assert left not in h.state.leases


async def test_the_words_of_a_template_are_counted(tmp_path: Path) -> None:
    async with opened(house(tmp_path, {"preface": 1500})) as front:
        said = [{"role": "user", "content": "x" * 100}]
        found = await asyncio.gather(*(front.chat("shared", messages=said, max_tokens=50) for _ in range(SLOTS)))
        assert [each.status for each in found] == [200] * SLOTS
