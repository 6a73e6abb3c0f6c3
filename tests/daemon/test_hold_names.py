"""Names that clients choose: they are shown, and no id, no label and no row is made of them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from house import House, model
from prometheus_client.exposition import generate_latest

from lmxd.config.file import load
from lmxd.errors import LmxdError

SMALL = {"estimated_memory_gb": 0.2}


def house(tmp_path: Path) -> House:
    model(tmp_path, "a")
    return House(tmp_path, models={"a": SMALL}, gpu={"device": "host", "max_memory_gb": 1})


def scraped(h: House) -> str:
    return generate_latest(h.daemon.metrics.registry).decode()


async def test_a_hold_named_as_a_model_takes_nothing_of_the_models(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        held = await lmxd.hold(1000, name="a")
        assert held.instance == "hold#1"
        with pytest.raises(LmxdError):
            await lmxd.hold(2**50, name="a")
        await lmxd.release(held.lease)
        await h.until(lambda: not h.phases())
        learned = h.state.expectations
        assert all("a" not in means for means in learned.means().values())
        assert 'model="a"' not in scraped(h)
        lease = await lmxd.request("a")
        assert lease.instance == "a#1", "the ids of a model count its own instances"
        (shown,) = (await lmxd.models()).models
        assert shown.running == 1


async def test_a_hold_is_shown_by_its_name(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd, h.client() as other:
        await lmxd.hold(2**29, name="train")
        waits = asyncio.create_task(other.hold(2**30 - 2**20, name="later"))
        await h.until(lambda: len(h.state.queue) == 1)
        (shown,) = (await lmxd.instances()).instances
        assert (shown.instance, shown.model, shown.name) == ("hold#1", "hold", "train")
        (ticket,) = (await lmxd.queue()).tickets
        assert (ticket.model, ticket.name) == ("hold", "later")
        waits.cancel()


async def test_three_thousand_names_leave_nothing_behind(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        await lmxd.release((await lmxd.hold(1000, name="first")).lease)
        await h.until(lambda: not h.phases())
        before = scraped(h).count("\n"), len(h.saved().counts), len(h.saved().means)
        for start in range(0, 3000, 100):
            held = await asyncio.gather(*(lmxd.hold(1000, name=f"n{start + i}") for i in range(100)))
            await asyncio.gather(*(lmxd.release(x.lease) for x in held))
        await h.until(lambda: not h.phases())
        await h.daemon.outbox.settled()
        assert (scraped(h).count("\n"), len(h.saved().counts), len(h.saved().means)) == before
        assert not any(name.startswith("instances n") for name in h.state.counts)


def test_no_model_is_called_as_holds_are(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(f"model_dir: {tmp_path}\nmodels: {{hold: {{}}}}\n")
    with pytest.raises(LmxdError, match="'hold' is the name of holds"):
        load(tmp_path / "config.yaml")
