"""Kept prompts: for their user alone, within their bound, and out of the reach of clients."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from house import House, http, model

from lmxd.daemon.launching.doorway import size_of
from lmxd.daemon.launching.prompts import PromptCaches
from lmxd.errors import LmxdError
from lmxd.rpc.messages import Granted

HALF = {"estimated_memory_gb": 0.4}
MIB = 2**20


def house(tmp_path: Path, *, gib: float = 0.01, play: dict[str, Any] | None = None, **profile: Any) -> House:
    """With room for two instances, of which one may be kept out by ``b`` and ``c``."""
    model(tmp_path, "a", **(play or {}))
    models = {"a": HALF | {"suspend": True} | profile, "b": HALF, "c": HALF}
    return House(tmp_path, models=models, gpu={"device": "host", "max_memory_gb": 1}, engine={"prompt_cache_gb": gib})


def kept(h: House) -> list[str]:
    """All that there is on disk: directories and the files in them."""
    there = h.where.state / "prompts"
    return sorted(str(path.relative_to(there)) for path in there.rglob("*")) if there.exists() else []


async def served(lease: Granted) -> int:
    """The requests that the instance has served, those of the life before included."""
    text = (await http(lease, "/metrics")).text
    return int(float(text.split("prompt_tokens_total ")[1].split()[0]))


async def end(h: House, lmxd: Any, lease: Granted) -> None:
    await lmxd.stop(lease.instance)
    await h.until(lambda: lease.instance not in h.phases())


async def test_clients_can_do_nothing_with_slots_as_long_as_they_have_a_key(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        for life in range(2):
            lease = await lmxd.request("a")
            before = kept(h)
            for action in ("save", "restore"):
                for name in ("slot-0.bin", "mine", "complete"):
                    body = json.dumps({"filename": name}).encode()
                    assert (await http(lease, f"/slots/0?action={action}", body)).status == 500
            assert kept(h) == before, "and not a byte was written"
            assert not any("door" in path for path in before)
            await http(lease, "/v1/chat/completions", b"{}")
            assert await served(lease) == life + 1, "yet lmxd's own save and restore work"
            await end(h, lmxd, lease)
        assert [Path(path).name for path in kept(h)][1:] == ["complete", "slot-0.bin"]


async def test_prompts_come_back_to_their_user_alone(tmp_path: Path) -> None:
    """Each key of the gateway is a user of its own."""
    async with house(tmp_path).open() as h, h.client() as lmxd:
        anna = await lmxd.request("a", user="anna")
        await http(anna, "/v1/chat/completions", b"{}")
        await anna.release()
        ben = await lmxd.request("a", user="ben")
        assert ben.instance != anna.instance
        assert ben.api_key != anna.api_key
        assert await served(ben) == 0
        again = await lmxd.request("a", user="anna")
        assert (again.instance, again.api_key) == (anna.instance, anna.api_key), "its own, while it runs"
        await end(h, lmxd, anna)
        await end(h, lmxd, ben)
        assert await served(await lmxd.request("a", user="ben")) == 0
        assert await served(await lmxd.request("a", user="anna")) == 1


async def test_an_instance_with_free_slots_is_still_not_shared(tmp_path: Path) -> None:
    async with house(tmp_path, slots=4).open() as h, h.client() as lmxd:
        first, second = await lmxd.request("a", user="anna"), await lmxd.request("a", user="anna")
        other = await lmxd.request("a", user="ben")
        assert first.instance == second.instance != other.instance


async def test_a_private_instance_makes_way_for_another_user(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        await lmxd.request("b")
        anna = await lmxd.request("a", user="anna")
        await http(anna, "/v1/chat/completions", b"{}")
        await anna.release()
        ben = await lmxd.request("a", user="ben", max_instances=1)
        assert (ben.instance, anna.instance in h.phases()) == ("a#2", False)
        await ben.release()
        assert await served(await lmxd.request("a", user="anna")) == 1


async def test_only_the_slots_are_kept(tmp_path: Path) -> None:
    names = ["complete", "mine", "slot-9.bin", ".hidden"]
    async with house(tmp_path, play={"slot_names": names}).open() as h, h.client() as lmxd:
        await end(h, lmxd, await lmxd.request("a"))
        assert {Path(path).name for path in kept(h)[1:]} <= {"complete", "slot-0.bin"}


async def test_a_cache_beyond_the_bound_is_not_kept(tmp_path: Path) -> None:
    async with house(tmp_path, gib=0.001, play={"slot_bytes": 3 * MIB}).open() as h, h.client() as lmxd:
        await end(h, lmxd, await lmxd.request("a"))
        assert kept(h) == []


async def test_an_engine_with_a_long_log_saves_as_well(tmp_path: Path) -> None:
    """Its log is a file that it writes, too: a bound below the log's own would end it by a signal."""
    here = house(tmp_path, play={"flood_mb": 20})
    here.write(engine={"prompt_cache_gb": 0.01, "log_max_mb": 64})
    async with here.open() as h, h.client() as lmxd:
        lease = await lmxd.request("a")
        launched = h.launched(lease.instance)
        assert launched is not None
        assert launched.log.path.stat().st_size > 20 * MIB
        await end(h, lmxd, lease)
        assert [Path(path).name for path in kept(h)][1:] == ["complete", "slot-0.bin"]


@pytest.mark.parametrize("harm", [0, 1, None])
async def test_a_file_that_is_not_whole_is_not_read(tmp_path: Path, harm: int | None) -> None:
    """Power was lost before all of it came to the disk; then the engine might end at each start. None: unharmed."""
    async with house(tmp_path, play={"slot_bytes": 9}).open() as h, h.client() as lmxd:
        lease = await lmxd.request("a")
        await http(lease, "/v1/chat/completions", b"{}")
        await end(h, lmxd, lease)
        (file,) = (h.where.state / "prompts").rglob("slot-0.bin")
        os.truncate(file, 9 if harm is None else harm)
        assert await served(await lmxd.request("a")) == (harm is None)


async def test_all_caches_together_keep_within_the_bound(tmp_path: Path) -> None:
    async with house(tmp_path, gib=0.003, play={"slot_bytes": MIB}).open() as h, h.client() as lmxd:
        for number in range(5):
            await end(h, lmxd, await lmxd.request("a", user=f"u{number}"))
            total = sum(size_of(path) for path in (h.where.state / "prompts").iterdir())
            assert total <= 0.003 * 2**30
        assert len(list((h.where.state / "prompts").iterdir())) == 3


async def test_an_engine_that_is_busy_when_it_ends_saves_nothing_and_delays_nobody(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        lease = await lmxd.request("a")
        await http(lease, "/fake/busy", b"1")
        await end(h, lmxd, lease)
        assert kept(h) == []


async def test_a_model_that_runs_for_nobody_is_everybodys_and_keeps_nothing(tmp_path: Path) -> None:
    async with house(tmp_path, keep=1).open() as h, h.client() as lmxd:
        assert "models.a.suspend has no effect: keep or preload is set" in h.daemon.present.warnings
        await h.until(lambda: h.phases() == {"a#1": "ready"})
        lease = await lmxd.request("a", user="anna")
        await lease.release()
        assert (await lmxd.request("a", user="ben")).instance == lease.instance == "a#1"
        launched = h.launched("a#1")
        assert launched is not None
        assert "--slot-save-path" not in h.argv(launched)


async def test_without_room_for_it_suspend_has_no_effect(tmp_path: Path) -> None:
    async with house(tmp_path, gib=0).open() as h, h.client() as lmxd:
        assert "models.a.suspend has no effect: prompt_cache_gb is 0" in h.daemon.present.warnings
        await (await lmxd.request("a", user="anna")).release()
        assert (await lmxd.request("a", user="ben")).instance == "a#1"


async def test_a_launch_that_fails_leaves_no_door(tmp_path: Path) -> None:
    async with house(tmp_path, play={"exit": {"status": 3, "lines": ["I give up"]}}).open() as h, h.client() as lmxd:
        with pytest.raises(LmxdError):
            await lmxd.request("a")
        await h.until(lambda: not h.phases())
        assert kept(h) == []


def test_what_an_earlier_lmxd_left_open_is_removed(tmp_path: Path) -> None:
    caches = PromptCaches(tmp_path, MIB)
    for name, files in (("a#1.door", ["x"]), ("a#1.shut", ["x"]), ("f00", ["slot-0.bin"]), ("ba5", ["complete"])):
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).touch()
    (tmp_path / "a#1.door").chmod(0o500)
    caches.sweep()
    assert [path.name for path in tmp_path.iterdir()] == ["ba5"]


async def test_who_has_an_instance_alone_has_it_alone_from_its_start(tmp_path: Path) -> None:
    """Others who had its key before would have it still. Root is asked for here by names of users of one uid."""
    async with house(tmp_path, suspend=False).open() as h, h.client() as lmxd:
        shared = await lmxd.request("b")
        await shared.release()
        alone = await lmxd.request("b", exclusive=True)
        assert alone.instance != shared.instance
        assert alone.api_key != shared.api_key
