"""Many at once and many in a row: connections, rivals, half-open peers, and instances that come and go."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from house import House

from lmxd.instances import proc

ROUNDS = int(os.environ.get("LMXD_ROUNDS", "3"))
"""Of 200 rivals for one slot; make soak takes 100."""
CYCLES = int(os.environ.get("LMXD_CYCLES", "60"))
"""Of spawning and reaping; make soak takes 10,000."""
RIVALS = 200
CONNECTIONS = 1000
SMALL = {"estimated_memory_gb": 0.05}


def house(tmp_path: Path, **sections: Any) -> House:
    rooms: dict[str, Any] = {"models": {"a": SMALL, "b": SMALL}, "gpu": {"device": "host", "max_memory_gb": 0.05}}
    return House(tmp_path, **(rooms | sections))


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def zombies() -> list[int]:
    return [pid for pid in proc.tree(os.getpid()) if not proc.lives(pid)]


@pytest.fixture
def many_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 3 * CONNECTIONS:
        pytest.skip(f"no more than {hard} descriptors here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 3 * CONNECTIONS), hard))


async def test_a_thousand_connections(tmp_path: Path, many_files: None) -> None:
    async with house(tmp_path).open() as h:
        before = descriptors()
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(h.client()) for _ in range(CONNECTIONS)]
            await h.until(lambda: len(h.daemon.listener.connections) == CONNECTIONS)
            found = await asyncio.gather(*(client.queue() for client in clients))
            assert len(found) == CONNECTIONS
            assert (await clients[0].request("a")).instance == "a#1", "an instance is started, watched and asked, too"
            await clients[0].stop("a#1")
        await h.until(lambda: not h.daemon.listener.connections and not h.phases())
        await h.until(lambda: descriptors() <= before)


async def test_rivals_for_one_place_are_served_one_by_one_in_order(tmp_path: Path) -> None:
    """As many clients as want one instance: each is granted exactly once, in the order of asking."""
    async with house(tmp_path, admission_control={"queue_depth": RIVALS}).open() as h, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(h.client()) for _ in range(RIVALS)]
        for _ in range(ROUNDS):
            order: list[int] = []
            held = 0

            async def rival(number: int, order: list[int] = order) -> None:
                nonlocal held
                lease = await clients[number].request("b")
                held += 1
                assert held == 1, "nobody else has it"
                order.append(number)
                held -= 1
                await lease.release()

            keeper = await clients[0].request("b")
            tasks = []
            for number in range(RIVALS):
                tasks.append(asyncio.create_task(rival(number)))
                await h.until(lambda: len(h.state.queue) == len(tasks))  # noqa: B023
            await keeper.release()
            await asyncio.wait_for(asyncio.gather(*tasks), 100)
            assert order == list(range(RIVALS))
        assert len(h.daemon.launches.pids()) == 1, "all of them on the same instance"


async def test_half_open_peers_do_not_add_up(tmp_path: Path) -> None:
    """They send half a request and no more, or send nothing, or close only their sending side."""
    async with house(tmp_path).open() as h, h.client() as lmxd:
        before = descriptors()
        peers = []
        for number in range(90):
            peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            peer.setblocking(False)
            await asyncio.get_running_loop().sock_connect(peer, str(h.where.socket))
            if number % 3 == 0:
                peer.send(b'{"jsonrpc":"2.0","id":1,"meth')
            if number % 3 == 1:
                peer.shutdown(socket.SHUT_WR)
            peers.append(peer)
        await h.until(lambda: len(h.daemon.listener.connections) == 61)  # those that will send no more are gone
        assert await lmxd.request("a")
        for peer in peers:
            peer.close()
        await h.until(lambda: len(h.daemon.listener.connections) == 1)
        assert descriptors() <= before + len(h.daemon.launches.pids()) * 3


@pytest.mark.timeout(7200)
async def test_instances_come_and_go_and_leave_nothing(tmp_path: Path) -> None:
    """Each request waits until the bytes of the instance before are seen free."""
    async with house(tmp_path).open() as h, h.client() as lmxd:
        sizes: list[tuple[int, int]] = []
        lease = await lmxd.request("a")
        for cycle in range(CYCLES):
            await lmxd.stop(lease.instance)
            lease = await lmxd.request("ab"[cycle % 2])
            if cycle in (CYCLES // 3, CYCLES - 1):
                await h.until(lambda: len(h.phases()) == 1)
                sizes.append((descriptors(), resident()))
        assert zombies() == []
        (fds, size), (fds_after, size_after) = sizes
        print(f"{CYCLES} cycles: {fds} -> {fds_after} descriptors, {size / 2**20:.1f} -> {size_after / 2**20:.1f} MiB")
        assert fds_after <= fds + 2
        assert size_after <= size + 10 * 2**20
        assert len(list(h.where.logs.iterdir())) <= 65
        assert len(list(h.where.home.glob("*.key"))) == 1
