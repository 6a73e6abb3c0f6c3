"""Who may come in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.front import opened
from gateway.test_serving import house


@pytest.mark.parametrize("key", ["Bearer nobody", "Bearer ", "Basic eA=="])
async def test_nobody_comes_in_without_a_key(tmp_path: Path, key: str) -> None:
    async with opened(house(tmp_path)) as front:
        for path in ("/v1/models", "/metrics", "/api/tags", "/upstream/a/slots", "/nowhere"):
            answer = await front.ask(path, method="GET", Authorization=key)
            assert answer.status == 401
        assert not front.house.state.instances


async def test_a_key_may_come_as_x_api_key(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        assert (await front.ask("/v1/models", method="GET", Authorization="", **{"X-Api-Key": front.key})).status == 200


async def test_without_keys_it_is_for_this_machine_alone(tmp_path: Path) -> None:
    """Not for a page of another site, nor for a name that was made to lead here."""
    async with opened(house(tmp_path), anonymous=True) as front:
        asked = {"method": "GET", "Authorization": ""}
        assert (await front.ask("/v1/models", **asked)).status == 200
        assert (await front.ask("/v1/models", **asked, Origin="https://evil.example")).status == 403
        assert (await front.ask("/v1/models", **asked, Host="evil.example")).status == 403
        assert (await front.ask("/v1/models", **asked, Origin=front.url)).status == 200
        known = await front.ask("/v1/models", method="GET", Origin="https://evil.example")
        assert known.status == 200, "who has a key may come from anywhere"


async def test_health_tells_nothing_and_is_for_all(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        answer = await front.ask("/health", method="GET", Authorization="")
        assert json.loads(answer.text) == {"status": "ok"}
