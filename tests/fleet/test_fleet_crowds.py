"""Hundreds of clients that ask at once: each is answered, and no node is taken for a dead one over it."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import httpx
from fleet_boxes import Boxes, boxes
from waiting import GENEROUS

_CROWD = 250


def test_of_a_crowd_each_is_answered(tmp_path: Path) -> None:
    with boxes(tmp_path, {"n1": {"m": {}}, "n2": {"m": {}}}, gateway={"wait": GENEROUS}) as fleet:
        fleet.warm()
        answers = asyncio.run(_crowd(fleet))
        said = Counter((answer.status_code, "" if answer.status_code == 200 else answer.text) for answer in answers)
        assert said == {(200, ""): _CROWD}


async def _crowd(fleet: Boxes) -> list[httpx.Response]:
    headers = {"Authorization": f"Bearer {fleet.gateway.key}"}
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=fleet.gateway.url, headers=headers, limits=limits, timeout=300) as client:
        return await asyncio.gather(*(client.post("/v1/chat/completions", json=body) for _ in range(_CROWD)))
