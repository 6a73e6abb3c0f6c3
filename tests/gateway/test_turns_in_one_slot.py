"""Long conversations that share one slot: each is put by when another comes, and processed no second time."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from devices.fake_nvml import FakeNvml
from house import House, card, http, model

from gateway.front import Front, opened
from lmxd.daemon.launching import ends, shelf
from lmxd.gateway.leasing.one_lease import OneLease
from lmxd.gateway.relaying import relay

STEPS = {"start": 1024, "steps": [4096]}
FIRST = 5000
ONE = 1.5
"""GiB of a card on which one instance fits."""


def house(tmp_path: Path, slots: int = 1, gib: float = ONE, **play: Any) -> House:
    """A model whose long conversations get 16,384 tokens, which are bytes, in an instance that takes 1 GiB."""
    model(tmp_path, "m", counts=True, **play)
    profile = {"context_length": 16384, "slots": slots, "estimated_memory_gb": 1, "elastic": STEPS}
    return House(tmp_path, FakeNvml(card(gib)), models={"m": profile}, gpu={"margin_gb": 0})


class Talks:
    """Conversations by name, and what was processed for each turn."""

    def __init__(self, front: Front) -> None:
        self.front = front
        self.prompts: dict[str, str] = {}

    async def turn(self, who: str, size: int = 20) -> int:
        """Tokens of the prompt that were processed."""
        self.prompts[who] = self.prompts.get(who, "") + who * size
        body = {"model": "m", "prompt": self.prompts[who], "n_predict": 5}
        answer = await self.front.ask("/completion", body)
        assert answer.status == 200, answer.text
        said = json.loads(answer.text)
        self.prompts[who] += said["content"]
        return int(said["timings"]["prompt_n"])


def files(h: House) -> list[Path]:
    return sorted((h.where.state / "moves").glob("*"))


async def met(front: Front) -> Talks:
    """Two conversations that have taken turns already, so that both are known to go on."""
    talks = Talks(front)
    for _ in range(2):
        for who in "ab":
            await talks.turn(who, FIRST)
    return talks


async def test_those_that_take_turns_in_one_slot_are_processed_once(tmp_path: Path) -> None:
    async with opened(h := house(tmp_path)) as front:
        talks = await met(front)
        assert max([await talks.turn(who) for who in "abbaab"]) <= 25
        assert len(files(h)) == 1, "the other lies in the slot"
        assert talks.prompts == await alone(front), "each has the answers of one that has a slot to itself"


async def test_those_that_go_on_have_an_instance_each_where_there_is_room(tmp_path: Path) -> None:
    async with opened(h := house(tmp_path, gib=8)) as front:
        talks = await met(front)
        assert max([await talks.turn(who) for who in "abbaab"]) <= 25
        assert files(h) == []
        assert list(h.phases().values()).count("ready") == 2


async def alone(front: Front) -> dict[str, str]:
    """The same conversations, one after the other."""
    talks = Talks(front)
    for who in "ba":
        for size in (FIRST, FIRST, 20, 20, 20):
            await talks.turn(who, size)
    return talks.prompts


async def test_one_of_which_nothing_is_heard_again_is_not_put_by(tmp_path: Path) -> None:
    async with opened(h := house(tmp_path)) as front:
        talks = Talks(front)
        for who in "abcd":
            await talks.turn(who, 2 * FIRST)
            assert files(h) == []
        assert await talks.turn("d") <= 25
        await talks.turn("e", 2 * FIRST)
        assert len(files(h)) == 1, "it had a second turn"


def cut(file: Path) -> None:
    """Make a file one that was not written to its end."""
    file.write_bytes(file.read_bytes()[:2000])


def another(file: Path) -> None:
    """Make a file one of something else."""
    file.write_bytes(b"x" * 9000)


async def test_what_is_lost_on_the_way_is_processed_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that is gone, cut, or of something else; then the slot is empty, and the answers are the same."""
    async with opened(h := house(tmp_path)) as front:
        talks = await met(front)
        for harm in (Path.unlink, cut, another):
            (file,) = files(h)
            harm(file)
            assert await talks.turn("a") > 2 * FIRST, "anew"
            assert await talks.turn("b") <= 25
            assert len(files(h)) == 1
    assert "a conversation is processed anew in slot 0" in caplog.text


async def test_a_full_disk_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(h := house(tmp_path)) as front:
        talks = await met(front)
        monkeypatch.setattr(shelf, "free_bytes", lambda _: 5000)
        await talks.turn("a")
        await talks.turn("b")
        assert files(h) == [], "there is room for less than one"
        monkeypatch.undo()
        monkeypatch.setattr(ends, "SPARE", 2**62)
        assert await talks.turn("a") > 2 * FIRST
        assert files(h) == []


async def test_files_go_with_the_last_instance_that_could_read_them_and_with_who_knows_them(tmp_path: Path) -> None:
    async with opened(h := house(tmp_path)) as front, h.client() as lmxd:
        talks = await met(front)
        await talks.turn("a")
        assert len(files(h)) == 1
        for name in list(h.phases()):
            await lmxd.stop(name)
        await h.until(lambda: not h.phases() and not files(h))
        await met(front)
        await talks.turn("a")
        assert len(files(h)) == 1
        await front.leases.client.__aexit__(None, None, None)
        await h.until(lambda: not files(h))


async def test_who_leaves_while_conversations_change_places_finds_its_own_when_it_is_back(tmp_path: Path) -> None:
    async with opened(h := house(tmp_path, slot_seconds=0.3)) as front:
        talks = await met(front)
        left = asyncio.create_task(talks.turn("a"))
        await h.until(lambda: any((h.where.state / "prompts").glob("*/*")))
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        talks.prompts["a"] = talks.prompts["a"][:-20]
        assert await talks.turn("a") <= 25
        assert await talks.turn("b") <= 25
        assert len(files(h)) == 1


async def test_a_program_with_one_lease_has_several_conversations_in_one_slot(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir(mode=0o700)
    async with (h := house(tmp_path)).open(), h.client() as holder:
        lease = await holder.request("m", ctx=16384)
        leases = OneLease(h.where.socket, lease)
        async with leases, relay(leases, lease, tmp_path / "own", 30.0) as own:

            async def turn(prompt: str) -> tuple[str, int]:
                body = json.dumps({"prompt": prompt, "n_predict": 5}).encode()
                said = json.loads((await http(own, "/completion", body)).text)
                return prompt + said["content"], said["timings"]["prompt_n"]

            talks, processed = [who * FIRST for who in "ab"], [0, 0]
            for _ in range(4):
                for n in (0, 1):
                    talks[n], processed[n] = await turn(talks[n] + "more")
            assert max(processed) <= len("more") + 1
            assert len(files(h)) == 1
