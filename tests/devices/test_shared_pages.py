"""RAM of a family of processes: each page is counted once, and no look waits for the kernel to count."""

from __future__ import annotations

import mmap
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from waiting import wait_until

from lmxd.devices.host import HostProbe
from lmxd.devices.measurement import ProcessUse
from lmxd.devices.shared_pages import RamBytes, SharedPages

MIB = 2**20


class Machine:
    """Processes of which the kernel says what they have, and what their part is."""

    def __init__(self, proc: Path) -> None:
        self.proc = proc
        self.now = 0.0
        self.asked: list[Callable[[], None]] = []
        self.shared = SharedPages(proc, lambda: self.now, self.asked.append)

    def part(self, pid: int, own: int, file: int) -> None:
        (self.proc / str(pid)).mkdir(exist_ok=True)
        anonymous, memory = own * 1024 // 4 * 3, own * 1024 // 4
        lines = (f"Pss_Anon: {anonymous} kB", f"Pss_File: {file * 1024} kB", f"Pss_Shmem: {memory} kB")
        (self.proc / str(pid) / "smaps_rollup").write_text("\n".join(("0-1 ---p [rollup]", *lines, "")))

    def use(self, pid: int, own: int, file: int = 0) -> ProcessUse:
        found = self.shared.use(pid, RamBytes(own * MIB, file * MIB))
        return ProcessUse(total=found.total // MIB, visible=found.visible // MIB)

    def answer(self) -> int:
        """Let the kernel answer; how many questions there were."""
        asked, self.asked[:] = list(self.asked), []
        for work in asked:
            work()
        return len(asked)


def test_a_process_has_its_part_as_soon_as_the_kernel_has_said_it(tmp_path: Path) -> None:
    m = Machine(tmp_path)
    m.part(7, own=300, file=100)
    assert m.use(7, 400, 500) == ProcessUse(total=900, visible=400), "at first all that it has"
    assert m.use(7, 400, 500) == ProcessUse(total=900, visible=400)
    assert m.answer() == 1, "it is asked once"
    assert m.use(7, 400, 500) == ProcessUse(total=400, visible=300)


def test_what_has_come_since_is_its_own_until_it_is_asked_again(tmp_path: Path) -> None:
    m = Machine(tmp_path)
    m.part(7, own=300, file=100)
    m.use(7, 400, 500)
    m.answer()
    assert m.use(7, 1400, 500) == ProcessUse(total=1400, visible=1300)
    assert m.answer() == 0, "not so soon"
    m.now += 3
    m.part(7, own=700, file=100)
    m.use(7, 1400, 500)
    assert m.answer() == 1
    assert m.use(7, 1400, 500) == ProcessUse(total=800, visible=700)


def test_one_that_does_not_change_is_seldom_asked(tmp_path: Path) -> None:
    m = Machine(tmp_path)
    m.part(7, own=300, file=0)
    m.use(7, 400)
    m.answer()
    for _ in range(300):
        m.now += 1
        m.use(7, 410)
        m.answer()
    assert m.now == 300
    m.part(7, own=410, file=0)
    m.now += 61
    m.use(7, 410)
    assert m.answer() == 1
    assert m.use(7, 410).visible == 410, "those that shared with it have ended"


def test_the_dearer_a_question_is_the_rarer_it_is_asked(tmp_path: Path) -> None:
    m = Machine(tmp_path)
    slow = [0.0, 1.0]  # the clock before and after the kernel's answer

    def clock() -> float:
        return slow.pop(0) if slow else m.now

    m.shared = SharedPages(tmp_path, clock, m.asked.append)
    m.part(7, own=300, file=0)
    m.use(7, 400)
    m.answer()
    m.now = 90.0
    m.use(7, 4000)
    assert m.answer() == 0
    m.now = 101.0
    m.use(7, 4000)
    assert m.answer() == 1


def test_when_one_of_a_family_ends_the_others_are_asked_again(tmp_path: Path) -> None:
    m = Machine(tmp_path)
    for pid in (7, 8):
        m.part(pid, own=50, file=0)
        m.use(pid, 100)
    m.answer()
    m.now += 5
    m.shared.keep({7})
    m.part(7, own=100, file=0)
    m.use(7, 100)
    assert m.answer() == 1
    assert m.use(7, 100).visible == 100


def test_one_that_the_kernel_says_nothing_of_has_all_that_it_has(tmp_path: Path) -> None:
    m = Machine(tmp_path)
    m.use(7, 400, 500)
    m.answer()
    assert m.use(7, 400, 500) == ProcessUse(total=900, visible=400)


@contextmanager
def sharing(mib: int) -> Iterator[int]:
    """A child that has the same pages as this process, so many MiB at least."""
    memory = mmap.mmap(-1, mib * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.write(b"x" * mib * MIB)
    child = os.fork()
    if child == 0:
        signal.pause()
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_real_family_is_counted_once_and_a_process_alone_is_asked_nothing_more() -> None:
    probe, me = HostProbe(), os.getpid()

    def taken(*pids: int) -> int:
        (host,) = probe.measure(set(pids))
        return sum(use.visible for use in (host.processes or {}).values())

    with sharing(256) as child:
        alone = taken(me)
        assert alone >= 256 * MIB
        wait_until(lambda: taken(me, child) < alone + 128 * MIB)
        assert taken(me) >= 256 * MIB, "by itself it has all that it maps"


def test_an_answer_may_come_while_others_are_forgotten(tmp_path: Path) -> None:
    """The kernel answers in another thread."""
    m = Machine(tmp_path)
    m.use(7, 400)
    m.answer()
    m.use(8, 400)

    class Answered(set[int]):
        def __contains__(self, pid: object) -> bool:
            m.answer()
            return super().__contains__(pid)

    m.shared.keep(Answered({7, 8}))
    m.use(8, 400)
    assert m.answer() <= 1, "it is asked again at most"
    assert m.use(8, 400) == ProcessUse(total=400, visible=400)
