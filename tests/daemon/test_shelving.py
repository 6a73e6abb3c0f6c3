"""The call ``shelve``: a conversation is put by for who had it so, and read by instances of its kind alone."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from daemon.test_carrying import PROMPT, STEPS, left, said, slots_of
from house import House, model
from intruders import intruder, was_spoken_to

from lmxd.daemon.launching import ends, shelf
from lmxd.errors import LmxdError
from lmxd.instances.ports import at_port


def house(tmp_path: Path, slots: int = 1) -> House:
    """Two models of the same kind of cache, of 256 to 1,024 tokens."""
    profile = {"estimated_memory_gb": 0.1, "context_length": 1024, "slots": slots, "elastic": STEPS}
    for name in "mn":
        model(tmp_path, name, counts=True)
    return House(tmp_path, models=dict.fromkeys("mn", profile), gpu={"device": "host", "max_memory_gb": 1})


async def test_it_comes_back_once_to_any_slot_of_its_kind(tmp_path: Path) -> None:
    async with house(tmp_path, slots=4).open() as h, h.client() as lmxd:
        lease = await lmxd.request("m")
        answer, _ = await said(lease, PROMPT, id_slot=3)
        told = await lmxd.shelve(lease.lease, 3)
        assert told.kept is not None
        await said(lease, "Another. ", id_slot=3)
        larger = await lmxd.request("m", ctx=512)
        assert (larger.instance, larger.instance_slots) == ("m#2", 2)
        assert (await lmxd.shelve(larger.lease, 1, keep=False, back=told.kept)).back
        assert (await said(larger, PROMPT + answer, id_slot=1))[1] == 1, "all but the last were there"
        assert not (await lmxd.shelve(larger.lease, 0, keep=False, back=told.kept)).back
        assert left(h) == []


async def test_nobody_else_and_no_other_model_has_it(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd, h.client() as other:
        lease, foreign = await lmxd.request("m"), await lmxd.request("n")
        await said(lease, PROMPT)
        kept = (await lmxd.shelve(lease.lease, 0)).kept
        assert not (await other.shelve(lease.lease, 0, keep=False, back=kept)).back, "it is another connection's"
        assert len(left(h)) == 1
        assert not (await lmxd.shelve(foreign.lease, 0, keep=False, back=kept)).back
        assert (left(h), await slots_of(foreign)) == ([], [0])


async def test_what_another_client_left_is_not_kept_as_ones_own(tmp_path: Path) -> None:
    """Two gateways in turns: none of them knows of the other's requests."""
    async with house(tmp_path).open() as h, h.client() as lmxd, h.client() as other:
        for client, kept in ((lmxd, False), (other, False), (other, True), (lmxd, False)):
            lease = await client.request("m")
            assert ((await client.shelve(lease.lease, 0)).kept is not None) is kept
            await said(lease, PROMPT)
            assert (await client.shelve(lease.lease, 0)).kept is not None
            await client.release(lease.lease)


async def test_beside_another_client_nobody_knows_whose_slots_are_whose(tmp_path: Path) -> None:
    async with house(tmp_path, slots=4).open() as h, h.client() as lmxd, h.client() as other:
        lease = await lmxd.request("m")
        assert (await other.request("m")).instance == lease.instance
        await said(lease, PROMPT, id_slot=0)
        assert (await lmxd.shelve(lease.lease, 0)).kept is None
        with pytest.raises(LmxdError, match="has the slots 0 to 3"):
            await lmxd.shelve(lease.lease, 4)
        assert left(h) == []


async def test_the_oldest_goes_where_there_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "MOST", 2)
    async with house(tmp_path).open() as h, h.client() as lmxd:
        lease = await lmxd.request("m")
        await said(lease, PROMPT)
        names = [(await lmxd.shelve(lease.lease, 0)).kept for _ in range(3)]
        assert left(h) == sorted(f"{name}.bin" for name in names[1:])


@pytest.mark.parametrize("full", ["connection", "disk"])
async def test_what_is_wanted_back_does_not_go_for_what_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    """Two in turns take one file, which is the oldest while the next is written."""
    async with house(tmp_path).open() as h, h.client() as lmxd:
        lease = await lmxd.request("m")
        await said(lease, PROMPT)
        before = await lmxd.shelve(lease.lease, 0)
        size = (h.where.state / "moves" / left(h)[0]).stat().st_size
        if full == "disk":
            monkeypatch.setattr(shelf, "free_bytes", lambda _: size)
        else:
            monkeypatch.setattr(shelf, "MOST", 1)
        for _ in range(3):
            told = await lmxd.shelve(lease.lease, 0, back=before.kept)
            assert told.back
            assert left(h) == [f"{told.kept}.bin"]
            before = told


async def test_a_file_that_takes_too_long_is_not_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ends, "LONGEST", 0.5)
    h = house(tmp_path)
    model(tmp_path, "m", counts=True, prompt_seconds=1e-3, slot_seconds=60)
    async with h.open(), h.client() as lmxd:
        lease = await lmxd.request("m")
        await said(lease, PROMPT)
        for _ in range(3):
            assert (await lmxd.shelve(lease.lease, 0)).kept is None
        assert caplog.text.count("it takes too long") == 1, caplog.text
        assert left(h) == []


async def test_an_empty_slot_is_not_kept(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        lease = await lmxd.request("m")
        assert await lmxd.shelve(lease.lease, 0) == (await lmxd.shelve(lease.lease, 0, keep=False))
        assert left(h) == []


@pytest.mark.parametrize(("seconds", "kept"), [(60, True), (1e-9, False)], ids=["slow", "fast"])
async def test_a_file_that_takes_longer_than_its_prompt_is_not_written_again(
    tmp_path: Path, seconds: float, kept: bool
) -> None:
    """``seconds``: of the engine, for each token of a prompt."""
    h = house(tmp_path)
    model(tmp_path, "m", counts=True, prompt_seconds=seconds)
    async with h.open(), h.client() as lmxd:
        lease = await lmxd.request("m")
        await said(lease, PROMPT)
        assert (await lmxd.shelve(lease.lease, 0)).kept is not None, "nobody knows yet"
        assert ((await lmxd.shelve(lease.lease, 0)).kept is not None) is kept


async def test_how_fast_files_were_is_forgotten_with_the_last_instance(tmp_path: Path) -> None:
    h = house(tmp_path)
    model(tmp_path, "m", counts=True, prompt_seconds=1e-9)
    async with h.open(), h.client() as lmxd:
        for kept in (True, False, True):
            lease = await lmxd.request("m")
            await said(lease, PROMPT)
            assert ((await lmxd.shelve(lease.lease, 0)).kept is not None) is kept
            if not kept:
                await lmxd.stop(lease.instance)
                await h.until(lambda: not h.state.instances)
            else:
                await lmxd.release(lease.lease)


async def test_who_listens_in_place_of_an_instance_is_not_asked_how_fast_it_is(tmp_path: Path) -> None:
    h = house(tmp_path)
    h.write(models={"m": h.sections["models"]["m"] | {"endpoint": "tcp"}})
    async with h.open(), h.client() as lmxd:
        lease = await lmxd.request("m")
        await said(lease, PROMPT)
        assert (await lmxd.shelve(lease.lease, 0)).kept is not None
        launched, port = h.launched(lease.instance), int(lease.endpoint.rpartition(":")[2])
        assert launched is not None
        assert launched.process is not None
        os.kill(launched.process.pid, signal.SIGUSR1)
        await h.until(lambda: not at_port(port))
        with intruder(port) as listening:
            assert (await lmxd.shelve(lease.lease, 0)).kept is None
            assert not was_spoken_to(listening)
