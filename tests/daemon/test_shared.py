"""Work that many want is done once, long work of one user waits for its own, and late beats are told."""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path
from typing import Any

from devices.fake_nvml import FakeNvml
from house import House, card
from waiting import turns, until

from lmxd.core.words import InstanceId
from lmxd.daemon.answering.health import Health
from lmxd.daemon.answering.reading import FileReading
from lmxd.daemon.answering.together import SharedAnswer
from lmxd.daemon.launching.descendants import Descendants
from lmxd.daemon.pulse import LATE, Pulse
from lmxd.errors import LmxdError
from lmxd.rpc.framing import Encoded, encoded
from lmxd.rpc.methods import described

SECTIONS: dict[str, Any] = {
    "gpu": {"device": "host", "max_memory_gb": 1},
    "models": {"a": {"estimated_memory_gb": 0.4, "slots": 2}, "b": {"estimated_memory_gb": 0.4}},
}


class Kitchen:
    """Makes a numbered answer, when it is let."""

    def __init__(self) -> None:
        self.made = 0
        self.now = 1000.0
        self.open = asyncio.Event()

    async def make(self) -> Encoded:
        self.made += 1
        number = self.made
        await self.open.wait()
        return encoded(number)

    def clock(self) -> float:
        return self.now


async def test_an_answer_is_made_once_for_all_who_ask_meanwhile_and_soon_after() -> None:
    kitchen = Kitchen()
    answer = SharedAnswer(kitchen.make, kitchen.clock)
    asking = [asyncio.create_task(answer.get("same")) for _ in range(100)]
    await turns(5)
    kitchen.open.set()
    assert {found.json for found in await asyncio.gather(*asking)} == {b"1"}
    assert (await answer.get("same")).json == b"1"
    assert (await answer.get("other")).json == b"2", "what it depends on has changed"
    kitchen.now += 1
    assert (await answer.get("other")).json == b"3", "it is a second old"


async def test_who_withdraws_does_not_stop_the_answer_of_others() -> None:
    kitchen = Kitchen()
    answer = SharedAnswer(kitchen.make, kitchen.clock)
    first, second = (asyncio.create_task(answer.get("same")) for _ in range(2))
    await turns(5)
    first.cancel()
    kitchen.open.set()
    assert (await second).json == b"1"


async def test_models_are_as_they_are_now_though_the_answer_is_shared(tmp_path: Path) -> None:
    async with House(tmp_path, **SECTIONS).open() as h, h.client() as lmxd:
        for count in range(3):
            found = {m.model: m for m in (await lmxd.models()).models}
            assert (found["a"].running, found["b"].running) == (min(count, 1), max(0, count - 1))
            if count < 2:
                await lmxd.request("ab"[count])
        h.write(models={"c": {"estimated_memory_gb": 0.1}})
        await lmxd.reload()
        assert [m.model for m in (await lmxd.models()).models] == ["c"]


def test_the_protocol_is_put_into_words_once() -> None:
    assert described() is described()


class Slow:
    """Long work, of which so much at once is counted."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.begun = 0
        self.done = 0
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            self.begun += 1
        self.open.wait(20)
        with self._lock:
            self.done += 1


async def test_the_files_of_one_user_do_not_keep_those_of_another() -> None:
    reading, hers, his = FileReading(), Slow(), Slow()
    asked = [asyncio.create_task(reading.do((1, ""), ("a", n), hers)) for n in range(40)]
    await until(lambda: hers.begun == 2)
    his.open.set()
    await asyncio.wait_for(reading.do((2, ""), ("a", 0), his), 20)
    assert (his.done, hers.begun) == (1, 2)
    hers.open.set()
    await asyncio.gather(*asked)
    assert hers.done == 40


async def test_slow_files_of_many_users_leave_threads_for_all_else() -> None:
    reading, slow = FileReading(), Slow()
    asked = [asyncio.create_task(reading.do((uid, ""), "a", slow)) for uid in range(100)]
    await until(lambda: slow.begun >= 4)
    assert await asyncio.wait_for(asyncio.to_thread(lambda: "another's"), 20) == "another's"
    slow.open.set()
    await asyncio.gather(*asked)


async def test_who_withdraws_again_and_again_is_refused_at_last() -> None:
    """The work of a call goes on though the call is withdrawn, and so it counts."""
    reading, work = FileReading(), Slow()
    refused: list[LmxdError] = []
    for n in range(80):
        asked = asyncio.create_task(reading.do((1, ""), n, work))
        await turns(5)
        if asked.done() and isinstance(error := asked.exception(), LmxdError):
            refused.append(error)
        asked.cancel()
    assert (len(refused), {error.code for error in refused}) == (80 - 64, {"too_many"})
    work.open.set()
    await until(lambda: work.done == 64)
    await turns(20)
    await reading.do((1, ""), "again", work)
    assert work.done == 65


async def test_the_children_of_all_roots_are_found_by_one_pass_that_holds_for_a_while() -> None:
    now = [1000.0]
    found = Descendants(lambda: now[0])
    script = "import subprocess, sys; [subprocess.Popen(['cat'], stdin=-1) for _ in 'ab']; sys.stdin.read()"
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdin=asyncio.subprocess.PIPE)
    other = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE)
    roots = {InstanceId("a"): parent.pid, InstanceId("b"): other.pid}

    async def count() -> int:
        now[0] += 1
        return len((await found.of(roots))[InstanceId("a")])

    async def has_both() -> bool:
        return await count() == 3

    await until(has_both)
    late = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE)
    both = await found.of({**roots, InstanceId("c"): late.pid})
    assert (both[InstanceId("b")], both[InstanceId("c")]) == ({other.pid}, {late.pid}), "a root is always there"
    for process in (parent, other, late):
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
    assert len((await found.of(roots))[InstanceId("a")]) == 3, "of the same pass"
    assert await count() == 1
    assert await found.of({}) == {}


async def test_a_process_with_many_threads_is_one_process(tmp_path: Path) -> None:
    """Its memory is the hold's, with that of its child, and it costs one look however many threads it has."""
    nvml = FakeNvml(card())
    async with House(tmp_path, nvml, models={}).open() as h, h.client() as lmxd:
        script = (
            "import subprocess, sys, threading; stop = threading.Event();"
            "[threading.Thread(target=stop.wait, daemon=True).start() for _ in range(500)];"
            "child = subprocess.Popen(['cat'], stdin=subprocess.PIPE); print(child.pid, flush=True);"
            "sys.stdin.read(); child.stdin.close(); child.wait()"
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdin is not None
        child = int(await process.stdout.readline())
        held = await lmxd.hold(2**30, pid=process.pid)
        nvml.cards[0].processes = {child: 2**29}

        async def measured() -> bool:
            await lmxd.devices()
            return bool(h.state.ledger.measured(InstanceId(held.instance)).get("GPU-a") == 2**29)

        await until(measured)
        process.stdin.close()
        await process.wait()


async def test_a_beat_that_is_late_is_told_for_a_minute_and_does_not_feed_the_watchdog(tmp_path: Path) -> None:
    now, jumps = [1000.0], [0.0]

    def clock() -> float:
        now[0] += jumps.pop() if jumps else 0.0
        return now[0]

    pulse = Pulse(clock, period=0.001)
    beating = asyncio.create_task(pulse.keep())
    async with House(tmp_path, **SECTIONS).open() as h:
        daemon = h.daemon
        health = Health(h.state, daemon.outbox, h.where.state, lambda: False, pulse)
        began = now[0]
        assert list(health.warnings()) == []
        assert pulse.steady_since(began)
        jumps.append(LATE + 3)
        await until(lambda: not jumps)
        await turns(5)
        if pulse.steady_since(began):  # the jump was between two beats
            jumps.append(LATE + 3)
        await until(lambda: not pulse.steady_since(began))
        (warning,) = health.warnings()
        assert "the loop was busy for 5.0 s" in warning
        assert pulse.steady_since(now[0] + 1), "once does not count for ever"
        assert list(health.faults()) == [], "requests are admitted all the same"
        now[0] += 61
        assert list(health.warnings()) == []
    beating.cancel()
