"""The call ``grow``: a lease moves to an instance with more context, or stays where it is."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from devices.fake_nvml import FakeNvml
from house import House, card, http, model

from lmxd.errors import LmxdError
from lmxd.rpc.notifications import Notification


def house(tmp_path: Path, **play: Any) -> House:
    """``m`` grows from 512 to 1,024 and 2,048 tokens, ``fixed`` does not."""
    model(tmp_path, "m", counts=True, **play)
    fixed = {"context_length": 2048, "estimated_memory_gb": 2}
    models = {"m": fixed | {"elastic": {"start": 512, "steps": [1024]}}, "fixed": fixed}
    return House(tmp_path, FakeNvml(card()), models=models)


async def test_a_lease_grows_with_its_conversation_and_keeps_its_name(tmp_path: Path) -> None:
    h = house(tmp_path)
    async with h.open(), h.client() as lmxd:
        lease = await lmxd.request("m")
        assert (lease.ctx, lease.ctx_most, lease.slot) == (512, 2048, None)
        prompt = "a" * 300
        await http(lease, "/completion", json.dumps({"prompt": prompt, "n_predict": 1}).encode())
        grown = await lmxd.grow(lease.lease, 600)
        assert (grown.lease, grown.ctx, grown.slot) == (lease.lease, 1024, 0)
        assert grown.instance != lease.instance
        said = await http(grown, "/completion", json.dumps({"prompt": prompt + "b", "n_predict": 1}).encode())
        assert json.loads(said.text)["timings"]["cache_n"] == 300
        assert (await lmxd.grow(lease.lease, 900)).instance == grown.instance, "it has as much"
        steps = [step.text for step in (await lmxd.explain(lease.lease)).steps]
        assert any(f"moves from {lease.instance} to {grown.instance}" in text for text in steps), steps
        await h.until(lambda: lease.instance not in h.state.instances)


async def test_what_is_not_carried_is_processed_anew(tmp_path: Path) -> None:
    h = house(tmp_path)
    async with h.open(), h.client() as lmxd:
        lease = await lmxd.request("m")
        await http(lease, "/completion", json.dumps({"prompt": "a" * 300, "n_predict": 1}).encode())
        grown = await lmxd.grow(lease.lease, 600, carry=False)
        assert grown.slot is None
        said = await http(grown, "/completion", json.dumps({"prompt": "a" * 301, "n_predict": 1}).encode())
        assert json.loads(said.text)["timings"]["cache_n"] == 0


@pytest.mark.parametrize(
    ("name", "how", "words"),
    [
        ("fixed", {"ctx": 4096}, "whose context is fixed"),
        ("m", {"ctx": 4096}, "grows to 2048 tokens at most"),
        ("m", {"ctx": 1024, "slot": 3}, "has the slots 0 to 0"),
    ],
)
async def test_a_growth_that_cannot_be_says_why(tmp_path: Path, name: str, how: dict[str, Any], words: str) -> None:
    h = house(tmp_path)
    async with h.open(), h.client() as lmxd:
        lease = await lmxd.request(name)
        with pytest.raises(LmxdError, match=words) as error:
            await lmxd.grow(lease.lease, **how)
        assert error.value.code == "invalid_params"
        assert error.value.remedy
        assert h.state.leases[lease.lease].instance == lease.instance


async def test_a_growth_without_room_leaves_the_lease_where_it_is(tmp_path: Path) -> None:
    h = house(tmp_path)
    async with h.open(), h.client() as lmxd:
        lease = await lmxd.request("m")
        (device,) = (await lmxd.devices()).devices
        await lmxd.hold(device.headroom)  # nor has the larger one room in the place of the other
        with pytest.raises(LmxdError) as error:
            await lmxd.grow(lease.lease, 600, wait=0)
        assert error.value.code == "no_capacity"
        assert (await http(lease, "/health")).status == 200
        assert h.state.leases[lease.lease].growing is None


async def test_a_growth_that_is_withdrawn_leaves_the_lease_where_it_is(tmp_path: Path) -> None:
    h = house(tmp_path)
    async with h.open(), h.client() as lmxd:
        lease = await lmxd.request("m")
        (tmp_path / "m.json").write_text(json.dumps({"counts": True, "load_seconds": 30}))
        growing = asyncio.create_task(lmxd.grow(lease.lease, 600))
        await h.until(lambda: h.state.leases[lease.lease].growing is not None)
        growing.cancel()
        await h.until(lambda: h.state.leases[lease.lease].growing is None)
        await h.until(lambda: not lmxd.granting)
        assert h.state.leases[lease.lease].instance == lease.instance
        assert (await http(lease, "/health")).status == 200


async def test_its_holder_hears_of_a_growth_that_another_client_asked_for(tmp_path: Path) -> None:
    h, heard = house(tmp_path), []
    told = h.client(on_notification=lambda name, params: heard.append((name, params)))
    async with h.open(), told as holder, h.client() as other:
        lease = await holder.request("m")
        assert (await holder.renew(lease.lease, instance=lease.instance)).moved is None
        grown = await other.grow(lease.lease, 600)
        await h.until(lambda: bool(heard))
        name, params = heard[0]
        assert name == Notification.MOVED
        assert (params["before"], params["granted"]["instance"]) == (lease.instance, grown.instance)
        moved = (await holder.renew(lease.lease, instance=lease.instance)).moved
        assert moved is not None
        assert (moved.instance, moved.api_key) == (grown.instance, grown.api_key)
