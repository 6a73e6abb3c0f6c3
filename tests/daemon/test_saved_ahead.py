"""A growth's conversation is on disk before the larger instance has loaded; what has changed since is saved again."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import pytest
from daemon.test_carrying import PROMPT, house, left, said
from house import House

SAVED = "saved ahead"


def loads_for(directory: Path, seconds: float) -> None:
    (directory / "m.json").write_text(json.dumps({"counts": True, "load_seconds": seconds}))


def files(h: House) -> list[str]:
    return [name for name in left(h) if name.endswith(".bin")]


@pytest.fixture(autouse=True)
def _logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


async def test_it_is_saved_while_the_larger_instance_loads(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        lease = await lmxd.request("m")
        answer, _ = await said(lease, PROMPT)
        loads_for(tmp_path, 1)
        growth = asyncio.create_task(lmxd.grow(lease.lease, ctx=512))
        await h.until(lambda: SAVED in caplog.text)
        assert h.state.leases[lease.lease].growing is not None, "it loads yet"
        grown = await growth
        assert (await said(grown, PROMPT + answer))[1] == 1
        await h.until(lambda: left(h) == [])


async def test_what_was_said_meanwhile_goes_along(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        lease = await lmxd.request("m")
        answer, _ = await said(lease, PROMPT)
        loads_for(tmp_path, 2)
        growth = asyncio.create_task(lmxd.grow(lease.lease, ctx=512))
        await h.until(lambda: SAVED in caplog.text)
        more, _ = await said(lease, PROMPT + answer)
        assert h.state.leases[lease.lease].growing is not None, "it loads yet"
        grown = await growth
        assert (await said(grown, PROMPT + answer + more))[1] == 1, "the file from before lacks the last answer"
        await h.until(lambda: left(h) == [])


async def test_a_growth_that_ends_leaves_no_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        lease = await lmxd.request("m")
        await said(lease, PROMPT)
        loads_for(tmp_path, 60)
        growth = asyncio.create_task(lmxd.grow(lease.lease, ctx=512))
        await h.until(lambda: SAVED in caplog.text)
        assert files(h)
        growth.cancel()
        await asyncio.gather(growth, return_exceptions=True)
        await h.until(lambda: not files(h))
