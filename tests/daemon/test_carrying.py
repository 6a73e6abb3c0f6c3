"""A growth's conversation: carried from slot to slot by file, or processed anew, and never a client's to reach."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from house import House, http, model

from lmxd.core.words import InstanceId
from lmxd.daemon.launching import ends
from lmxd.rpc.messages import Granted

STEPS = {"start": 256, "steps": [512]}
PROMPT = "Tell me of the sea. "


def house(tmp_path: Path, *, slots: int = 1, play: dict[str, Any] | None = None) -> House:
    """With a model whose context grows from 256 to 512 and 1,024 tokens, which are bytes."""
    model(tmp_path, "m", counts=True, **(play or {}))
    profile = {"estimated_memory_gb": 0.1, "context_length": 1024, "slots": slots, "elastic": STEPS}
    return House(tmp_path, models={"m": profile}, gpu={"device": "host", "max_memory_gb": 1})


async def said(lease: Granted, prompt: str, **more: Any) -> tuple[str, int]:
    """The answer, and how many tokens were processed for it."""
    body = {"prompt": prompt, "n_predict": 8, **more}
    answer = json.loads((await http(lease, "/completion", json.dumps(body).encode())).text)
    return answer["content"], answer["timings"]["prompt_n"]


async def slots_of(lease: Granted) -> list[int]:
    """Tokens in each slot."""
    return [slot["n_prompt_tokens"] for slot in json.loads((await http(lease, "/slots")).text)]


async def no_doorway(lease: Granted) -> None:
    for action in ("save", "restore"):
        body = json.dumps({"filename": "slot-0.bin"}).encode()
        assert (await http(lease, f"/slots/0?action={action}", body)).status == 500


def left(h: House) -> list[str]:
    """All files and doorways."""
    there = [h.where.state / "moves", h.where.state / "prompts"]
    return sorted(path.name for directory in there for path in directory.rglob("*"))


async def test_a_conversation_goes_along_and_nothing_is_processed_twice(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        lease = await lmxd.request("m")
        answer, count = await said(lease, PROMPT)
        assert count == len(PROMPT)
        for ctx in (512, 1024):
            before, lease = lease.instance, await lmxd.grow(lease.lease, ctx=ctx)
            assert (lease.instance != before, lease.ctx, lease.slot) == (True, ctx, 0)
            prompt = PROMPT + answer
            more, count = await said(lease, prompt)
            assert count == 1, "all but the last were cached"
            answer += more
        await h.until(lambda: list(h.phases().values()) == ["ready"])
        assert left(h) == []


async def test_it_goes_from_any_slot_to_one_of_another_number_of_slots(tmp_path: Path) -> None:
    async with house(tmp_path, slots=6).open() as h, h.client() as lmxd:
        first, second = await lmxd.request("m"), await lmxd.request("m")
        answer, _ = await said(first, PROMPT, id_slot=4)
        await second.release()
        grown = await lmxd.grow(first.lease, ctx=400, slot=4)
        launched = h.launched(grown.instance)
        assert launched is not None
        assert (launched.plan.launch.slots, grown.slot) == (3, 0)
        assert (await said(grown, PROMPT + answer, id_slot=0))[1] == 1
        assert first.instance in h.phases(), "it has others' conversations"


async def test_two_that_come_to_one_instance_have_a_slot_each(tmp_path: Path) -> None:
    async with house(tmp_path, slots=4).open() as h, h.client() as lmxd:
        lease = await lmxd.request("m")
        answer, _ = await said(lease, PROMPT, id_slot=3)
        one = await lmxd.grow(lease.lease, ctx=500, slot=3)
        other = await lmxd.request("m")
        answer2, _ = await said(other, "Another. ", id_slot=1)
        two = await lmxd.grow(other.lease, ctx=500, slot=1)
        assert (one.instance, one.slot, two.slot) == (two.instance, 0, 1)
        assert (await said(one, PROMPT + answer, id_slot=0))[1] == 1
        assert (await said(two, "Another. " + answer2, id_slot=1))[1] == 1
        assert left(h) == []


@pytest.mark.parametrize(
    ("slots", "play", "why"),
    [(1, {"restores": False}, "did not read it"), (2, {"slot_version": 5}, "laid out in another way")],
    ids=["not-read", "another-layout"],
)
async def test_what_cannot_be_carried_is_processed_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, slots: int, play: dict[str, Any], why: str
) -> None:
    async with house(tmp_path, slots=slots, play=play).open() as h, h.client() as lmxd:
        lease = await lmxd.request("m")
        answer, _ = await said(lease, PROMPT, id_slot=0)
        lease = await lmxd.grow(lease.lease, ctx=512, slot=0)
        assert (lease.slot, await slots_of(lease)) == (None, [0])
        assert (await said(lease, PROMPT + answer))[1] == len(PROMPT + answer)
        assert left(h) == []
    assert why in caplog.text


async def test_between_as_many_slots_the_layout_of_a_file_is_the_engines_own_matter(tmp_path: Path) -> None:
    async with house(tmp_path, play={"slot_version": 5}).open() as h, h.client() as lmxd:
        lease = await lmxd.request("m")
        answer, _ = await said(lease, PROMPT)
        lease = await lmxd.grow(lease.lease, ctx=512)
        assert (await said(lease, PROMPT + answer))[1] == 1


async def test_without_a_conversation_there_is_nothing_to_carry(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        lease = await lmxd.request("m")
        grown = await lmxd.grow(lease.lease, ctx=512)
        assert (grown.slot, grown.ctx) == (None, 512)
        assert left(h) == []


async def test_a_disk_that_is_full_carries_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        lease = await lmxd.request("m")
        await said(lease, PROMPT)
        monkeypatch.setattr(ends, "SPARE", 2**62)
        assert (await lmxd.grow(lease.lease, ctx=512)).slot is None
        assert left(h) == []


@pytest.mark.parametrize("room", [0, 100, 500])
async def test_nor_does_one_that_becomes_full_while_its_engine_writes(tmp_path: Path, room: int) -> None:
    """The engine calls that a success, and one that reads such a file ends."""
    async with house(tmp_path, play={"room": room}).open() as h, h.client() as lmxd:
        lease = await lmxd.request("m")
        answer, _ = await said(lease, PROMPT * 5)
        lease = await lmxd.grow(lease.lease, ctx=512)
        assert (lease.slot, lease.ctx) == (None, 512)
        assert (await said(lease, PROMPT * 5 + answer))[1] == len(PROMPT * 5 + answer)
        assert left(h) == []


async def test_one_whose_slot_is_at_work_for_too_long_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ends, "LONGEST", 0.3)
    async with house(tmp_path, play={"slot_seconds": 20}).open() as h, h.client() as lmxd:
        lease = await lmxd.request("m")
        await said(lease, PROMPT)
        assert (await asyncio.wait_for(lmxd.grow(lease.lease, ctx=512), 10)).slot is None
        assert left(h) == []


@pytest.mark.parametrize("patient", [True, False])
async def test_an_engine_that_is_stopped_meanwhile_is_waited_for_within_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patient: bool
) -> None:
    if not patient:
        monkeypatch.setattr(ends, "LONGEST", 0.3)
    async with house(tmp_path).open() as h, h.client() as lmxd:
        lease = await lmxd.request("m")
        answer, _ = await said(lease, PROMPT)
        pid = h.daemon.performer.pid(InstanceId(lease.instance))
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            growing = asyncio.create_task(lmxd.grow(lease.lease, ctx=512))
            await h.until(lambda: h.phases().get("m#2") == "ready")
            if not patient:
                await growing
        finally:
            os.kill(pid, signal.SIGCONT)
        grown = await growing
        assert (grown.instance, grown.slot) == ("m#2", 0 if patient else None)
        assert (await said(grown, PROMPT + answer))[1] == (1 if patient else len(PROMPT + answer))
        await h.until(lambda: list(h.phases().values()) == ["ready"])
        await h.until(lambda: left(h) == [])


async def test_clients_find_no_doorway(tmp_path: Path) -> None:
    """Holders have the keys of both instances, and could have slots read and written by any name."""
    async with house(tmp_path).open() as h, h.client() as lmxd:
        lease = await lmxd.request("m")
        await said(lease, PROMPT)
        await no_doorway(lease)
        await no_doorway(await lmxd.grow(lease.lease, ctx=512))
        assert left(h) == []


@pytest.mark.parametrize("there", ["moves", "moves/directory/file"])
async def test_without_a_place_for_its_file_it_is_processed_anew(tmp_path: Path, there: str) -> None:
    here = house(tmp_path)
    (here.where.state / there).parent.mkdir(parents=True)
    (here.where.state / there).touch()
    async with here.open() as h, h.client() as lmxd:
        lease = await lmxd.request("m")
        answer, _ = await said(lease, PROMPT)
        grown = await lmxd.grow(lease.lease, ctx=512)
        carried = there != "moves"  # beside what cannot be removed, files are kept
        assert (await said(grown, PROMPT + answer))[1] == (1 if carried else len(PROMPT + answer))


async def test_what_an_earlier_lmxd_left_is_swept_and_its_instances_grow_on(tmp_path: Path) -> None:
    here = house(tmp_path)
    async with here.open(stays=True) as h, h.client() as lmxd:
        lease = await lmxd.request("m", hold="explicit")
        answer, _ = await said(lease, PROMPT)
    for name in ("moves/0123.bin", "prompts/m#1.door/0123.bin"):
        (here.where.state / name).parent.mkdir(parents=True, exist_ok=True)
        (here.where.state / name).touch()
    async with here.open() as h, h.client() as lmxd:
        assert left(h) == []
        grown = await lmxd.grow(lease.lease, ctx=512)
        assert (await said(grown, PROMPT + answer))[1] == 1
