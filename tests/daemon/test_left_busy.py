"""Who releases a lease and goes on with its key: on real sockets and processes."""

from __future__ import annotations

import asyncio
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from house import House, http, model
from waiting import until

from lmxd.errors import LmxdError
from lmxd.rpc.messages import Granted

HALF = {"estimated_memory_gb": 0.4}
ONE_LEASE = {str(os.getuid()): {"max_leases": 1}}


def house(tmp_path: Path, **sections: Any) -> House:
    for name in "abc":
        model(tmp_path, name, token_seconds=0.05)
    models: dict[str, Any] = {"a": HALF, "b": HALF, "c": HALF}
    base: dict[str, Any] = {"models": models, "gpu": {"device": "host", "max_memory_gb": 1}}
    return House(tmp_path, **(base | sections))


async def _is_at_it(lease: Granted) -> bool:
    return "requests_processing 1" in (await http(lease, "/metrics")).text


async def test_what_is_left_busy_ends_for_others_after_the_grace(tmp_path: Path) -> None:
    async with (
        house(tmp_path, admission_control={"grace": 1}).open() as h,
        h.client() as hog,
        h.client() as lmxd,
        asyncio.timeout(20),
    ):
        left = [await hog.request(name) for name in "ab"]
        endless = b'{"stream": true, "n_predict": 1000000}'
        streams = [asyncio.create_task(http(lease, "/completion", endless)) for lease in left]
        for lease in left:
            await until(partial(_is_at_it, lease))
            await lease.release()
        assert (await lmxd.request("c")).instance == "c#1"
        assert len(h.phases()) == 2, "one of them has made way"
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)


async def test_what_is_left_busy_counts_for_the_quota(tmp_path: Path) -> None:
    async with house(tmp_path, users=ONE_LEASE).open() as h, h.client() as lmxd:
        for _ in range(3):
            lease = await lmxd.request("a")
            await http(lease, "/fake/busy", b"1")
            await lease.release()
            with pytest.raises(LmxdError) as refused:
                await lmxd.request("b", wait=0)
            assert refused.value.code == "over_quota"
            assert h.phases() == {"a#1": "ready"}
        waits = asyncio.create_task(lmxd.request("b"))
        await h.until(lambda: len(h.state.queue) == 1)
        await http(lease, "/fake/busy", b"0")
        assert (await waits).instance == "b#1"


async def test_who_leaves_nothing_behind_is_not_held_up_by_a_quota(tmp_path: Path) -> None:
    roomy = {"device": "host", "max_memory_gb": 1.3}
    async with house(tmp_path, users=ONE_LEASE, gpu=roomy).open() as h, h.client() as lmxd:
        for name in "ababcc":
            lease = await lmxd.request(name, wait=0)
            await http(lease, "/v1/chat/completions", b"{}")
            await lease.release()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can ask as another user")
async def test_another_user_of_the_model_gets_an_instance_with_another_key() -> None:
    """A real other user: the one before has a generation running, and no lease."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        h = house(Path(place), admission_control={"grace": 1})
        async with h.open(), h.client() as hog, asyncio.timeout(20):
            h.where.socket.chmod(0o666)
            h.daemon.access.admits = lambda peer: True  # type: ignore[method-assign]
            lease = await hog.request("a")
            await http(lease, "/fake/busy", b"1")
            await lease.release()
            os.seteuid(12345)
            try:
                other = await h.client().__aenter__()
            finally:
                os.seteuid(0)
            granted = await other.request("a", max_instances=1)
            assert granted.instance == "a#2"
            assert granted.api_key != lease.api_key
            (owner,) = [x.owner.uid for x in h.state.leases.values()]
            assert owner == 12345
            await other.__aexit__()
