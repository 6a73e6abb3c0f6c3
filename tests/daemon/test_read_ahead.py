"""Files are read before they are loaded: in the order of those who wait, as far as there is room, and no longer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from cached import drop, pages, pages_in_cache
from devices.fake_nvml import FakeNvml
from house import House, card, model

from lmxd.core.words import InstanceId
from lmxd.daemon.launching.read_ahead import STEP, ReadAhead, promised

ON_GPU = ["load_tensors:      CUDA0 model buffer size =  4155.99 MiB"]
A, B, C = Path("a"), Path("b"), Path("c")


class Disk:
    """Files of so many steps, and how many steps of them fit. ``read``: what was, in order; ``happens`` meanwhile."""

    def __init__(self, room: float = 100, **steps: float) -> None:
        self.files = {Path(name): int(n * STEP) for name, n in steps.items()}
        self.room = room
        self.read: list[tuple[str, float]] = []
        self.happens: Callable[[], object] = lambda: None
        self.ahead = ReadAhead(self.bring_in, lambda: int(self.room * STEP))

    def bring_in(self, path: Path, offset: int, size: int) -> int:
        if path not in self.files:
            raise FileNotFoundError(path)
        done = max(0, min(size, self.files[path] - offset))
        if done:
            self.read.append((path.name, done / STEP))
        self.happens()
        return done

    async def rest(self) -> None:
        """Until there is nothing more to read, for now."""
        if self.ahead.work is not None:
            await self.ahead.work


async def test_one_after_the_other_in_order() -> None:
    disk = Disk(a=1.5, b=1)
    disk.ahead.want([B, A])
    await disk.rest()
    assert disk.read == [("b", 1), ("a", 1), ("a", 0.5)]
    disk.ahead.want([A, B])
    await disk.rest()
    assert len(disk.read) == 3, "both are there"


async def test_who_comes_to_the_front_is_next() -> None:
    disk = Disk(a=3, b=1)
    loop = asyncio.get_running_loop()
    disk.happens = lambda: loop.call_soon_threadsafe(disk.ahead.want, [B, A])
    disk.ahead.want([A])
    await disk.rest()
    assert disk.read == [("a", 1), ("b", 1), ("a", 1), ("a", 1)]


async def test_it_ends_when_nobody_waits_any_more() -> None:
    disk = Disk(a=50)
    loop = asyncio.get_running_loop()
    disk.happens = lambda: loop.call_soon_threadsafe(disk.ahead.want, [])
    disk.ahead.want([A])
    await disk.rest()
    assert disk.read == [("a", 1)]


async def test_no_more_than_there_is_room_for_what_stands_before_it_included() -> None:
    disk = Disk(room=4, a=2, b=3, c=1)
    disk.ahead.want([A, B, C], promised=STEP // 2)
    await disk.rest()
    assert disk.read == [("a", 1), ("a", 1), ("b", 1), ("b", 0.5)]
    disk.ahead.want([C, B], promised=STEP // 2)
    await disk.rest()
    assert disk.read[4:] == [("c", 1), ("b", 1)], "a has made way"
    disk.room = 9
    disk.ahead.want([C, B])
    await disk.rest()
    assert disk.read[6:] == [("b", 0.5)]


async def test_a_file_that_cannot_be_read_keeps_nobody() -> None:
    disk = Disk(b=1)
    disk.ahead.want([A, B])
    await disk.rest()
    assert disk.read == [("b", 1)]


def house(tmp_path: Path, **engine: object) -> House:
    """One model fits at a time."""
    for name in "abc":
        model(tmp_path, name, buffers=ON_GPU)
    return House(
        tmp_path,
        FakeNvml(card(10)),
        models={name: {"estimated_memory_gb": 6} for name in "abc"},
        engine=engine,
        gpu={"margin_gb": 0},
    )


class Noted:
    """Notes which files are to be read, and reads nothing."""

    def __init__(self, h: House) -> None:
        self.files: list[str] = []
        h.daemon.read_ahead = ReadAhead(self.bring_in, lambda: 2**40)

    def bring_in(self, path: Path, offset: int, size: int) -> int:
        self.files.append(path.name)
        return 0


async def test_the_files_of_those_that_wait_for_bytes(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd, h.client() as two, h.client() as three:
        noted = Noted(h)
        await lmxd.request("a")
        again = asyncio.create_task(two.request("a"))
        waits = asyncio.create_task(three.request("b"))
        await h.until(lambda: bool(noted.files))
        assert noted.files == ["b.gguf"], "a runs, and only its slots are taken"
        for task in (again, waits):
            task.cancel()


async def test_all_parts_of_a_model(tmp_path: Path) -> None:
    made = house(tmp_path)
    whole = tmp_path / "b.gguf"
    first = tmp_path / "b-00001-of-00002.gguf"
    whole.rename(first)
    (tmp_path / "b-00002-of-00002.gguf").write_bytes(first.read_bytes())
    async with made.open() as h, h.client() as lmxd, h.client() as two:
        noted = Noted(h)
        await lmxd.request("a")
        waits = asyncio.create_task(two.request("b"))
        await h.until(lambda: len(noted.files) == 2)
        assert noted.files == ["b-00001-of-00002.gguf", "b-00002-of-00002.gguf"]
        waits.cancel()


async def test_it_can_be_turned_off(tmp_path: Path) -> None:
    async with house(tmp_path, read_ahead=False).open() as h, h.client() as lmxd, h.client() as two:
        noted = Noted(h)
        await lmxd.request("a")
        waits = asyncio.create_task(two.request("b"))
        await h.until(lambda: len(h.state.queue) == 1)
        await h.daemon.measuring.look()
        assert noted.files == []
        waits.cancel()


async def test_a_cold_file_is_warm_before_it_is_started(tmp_path: Path) -> None:
    """Real files and a real page cache: b waits for a's bytes, and its file is in the cache before it has them."""
    made = house(tmp_path)
    cold = tmp_path / "b.gguf"
    cold.write_bytes(cold.read_bytes() + bytes(32 * 2**20))
    async with made.open() as h, h.client() as lmxd, h.client() as two:
        lease = await lmxd.request("a")
        drop(cold)
        waits = asyncio.create_task(two.request("b"))
        await h.until(lambda: pages_in_cache(cold) == pages(cold))
        assert h.phases().keys() == {"a#1"}
        await lmxd.release(lease.lease)
        assert (await waits).instance == "b#1"


async def test_ram_that_is_promised_and_not_yet_taken_is_nobodys(tmp_path: Path) -> None:
    made = House(tmp_path, models={"a": {"estimated_memory_gb": 0.4}}, gpu={"device": "host", "max_memory_gb": 1})
    async with made.open() as h, h.client() as lmxd:
        assert promised(h.state, set()) == 0
        await lmxd.request("a")
        await h.daemon.measuring.look()
        (account,) = h.state.ledger.accounts.values()
        (reservation,) = account.reservations.values()
        assert reservation.visible > 0
        assert promised(h.state, set()) == int(0.4 * 2**30) - reservation.visible
        assert promised(h.state, {InstanceId("a#1")}) == 0, "whose file it is that is read"
