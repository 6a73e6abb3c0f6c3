"""What administrators may do on the dashboard, as its page does it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gateway.front import Front, opened
from gateway.test_serving import house


async def act(front: Front, name: str, **params: Any) -> tuple[int, dict[str, Any]]:
    done = await front.ask(f"/lmxd/{name}", params, Authorization=f"Bearer {front.admin}")
    return done.status, json.loads(done.text)


async def test_an_administrator_acts_as_with_lmxctl(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        await front.chat("a")
        assert await act(front, "pin", instance="a#1") == (200, {"instance": "a#1", "pin": True})
        assert await act(front, "pin", instance="a#1", pin=False) == (200, {"instance": "a#1", "pin": False})
        assert await act(front, "stop", instance="a#1") == (200, {"instance": "a#1"})
        status, made = await act(front, "yield", bytes=2**20)
        assert (status, made["bytes"], made["lasts"]) == (200, 2**20, 3600)
        assert await act(front, "unyield", id=made["id"]) == (200, {"id": made["id"]})


async def test_an_act_without_its_parameters_is_refused_by_the_daemon(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        status, answer = await act(front, "stop")
        assert (status, answer["error"]["message"].partition(" (")[0]) == (400, "instance: missing")
        status, answer = await act(front, "reload")
        assert (status, answer["error"]["message"].partition(" (")[0]) == (400, "there is no action 'reload'")
