"""Whose turn it is to load: told as stories, held against any history, and no clock but the looks'."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lmxd.core.words import DeviceId, DeviceReading, InstanceId, Taken
from lmxd.daemon.launching.loading import STILL, Gate, Loading, PendingLoad, usual

MIB = 2**20


class Line:
    """A gate, and who was told that it may load, in order."""

    def __init__(self, most: int = 2, gate: Gate | None = None) -> None:
        self.gate = gate or Gate()
        self.gate.most = most
        self.begun: list[str] = []

    def enter(self, name: str, devices: str = "x", *, alone: bool = False) -> None:
        turn = PendingLoad(
            devices=frozenset(map(DeviceId, devices)), alone=alone, begin=lambda: self.begun.append(name)
        )
        self.gate.enter(InstanceId(name), turn)

    def leave(self, name: str) -> None:
        self.gate.leave(InstanceId(name))

    def share(self, name: str) -> None:
        self.gate.share(InstanceId(name))


def test_as_many_as_may_load_at_once_and_the_next_when_one_has_loaded() -> None:
    line = Line(most=2)
    for name in "abcd":
        line.enter(name)
    assert (line.begun, line.gate.waiting) == (["a", "b"], ("c", "d"))
    line.leave("b")
    assert (line.begun, line.gate.waiting) == (["a", "b", "c"], ("d",))


def test_one_whose_bytes_are_not_known_is_alone_on_its_devices_and_not_on_others() -> None:
    line = Line()
    line.enter("a")
    line.enter("slow", alone=True)
    line.enter("b")
    line.enter("elsewhere", "y")
    assert line.begun == ["a", "elsewhere"]
    line.leave("a")
    assert line.begun == ["a", "elsewhere", "slow"]
    line.leave("slow")
    assert line.begun == ["a", "elsewhere", "slow", "b"]


def test_it_lets_others_in_as_soon_as_its_bytes_are_known() -> None:
    line = Line(most=2)
    line.enter("slow", alone=True)
    line.enter("a")
    line.enter("b")
    line.share("slow")
    assert line.begun == ["slow", "a", "b"], "it loads nothing any more, and takes no place of theirs"


def test_a_small_model_does_not_wait_for_the_whole_start_of_two_slow_engines() -> None:
    """The second may load beside the first once that has what it takes."""
    line = Line(most=1)
    for name, alone in (("slow", True), ("slower", True), ("small", False)):
        line.enter(name, alone=alone)
    line.share("slow")
    assert line.begun == ["slow", "slower"]
    line.share("slower")
    assert line.begun == ["slow", "slower", "small"]


def test_who_wants_several_devices_gets_them_at_once_and_holds_none_meanwhile() -> None:
    line = Line(most=1)
    line.enter("a", "x")
    line.enter("split", "xy")
    assert line.begun == ["a"]
    line.enter("b", "y")
    assert line.begun == ["a"], "b came later and wants what split waits for"
    line.leave("a")
    assert line.begun == ["a", "split"]
    line.leave("split")
    assert line.begun == ["a", "split", "b"]


def test_who_leaves_the_line_keeps_nobody() -> None:
    line = Line()
    line.enter("a")
    line.enter("slow", alone=True)
    line.enter("b")
    line.leave("slow")
    assert line.begun == ["a", "b"]
    line.leave("slow")
    assert line.gate.waiting == ()


def test_a_lower_limit_ends_no_load_and_a_higher_one_counts_from_the_next_step() -> None:
    line = Line(most=3)
    for name in "abcd":
        line.enter(name)
    line.gate.most = 1
    line.leave("a")
    assert line.begun == ["a", "b", "c"]
    line.gate.most = 3
    line.leave("b")
    assert line.begun == ["a", "b", "c", "d"]


@pytest.mark.parametrize(("cores", "loads"), [(1, 1), (2, 2), (8, 8), (128, 8)])
def test_each_load_has_a_core_as_long_as_the_bus_keeps_up(cores: int, loads: int) -> None:
    assert usual(cores) == loads


class Alone:
    """One loads alone on x, another waits for x; looks at the devices are told."""

    def __init__(self, devices: str = "x") -> None:
        self.loading = Loading()
        self.line = Line(gate=self.loading.gate)
        self.line.enter("slow", devices, alone=True)
        self.line.enter("a", "x")

    def look(self, at: float, **readings: int | None) -> bool:
        """MiB by device; None: it does not answer. Whether the other may load by now."""
        self.loading.see(
            at,
            [
                DeviceReading(device=DeviceId(device), unavailable="lost")
                if mib is None
                else DeviceReading(
                    device=DeviceId(device), taken={InstanceId("slow"): Taken(total=mib * MIB, visible=mib * MIB)}
                )
                for device, mib in readings.items()
            ],
        )
        return "a" in self.line.begun


def test_alone_no_longer_than_its_bytes_grow() -> None:
    alone = Alone()
    assert not alone.look(10.0, x=0)
    assert not alone.look(11.0, x=100)
    assert not alone.look(12.5, x=200)
    assert not alone.look(12.5 + STILL - 0.1, x=201), "that is noise"
    assert alone.look(12.5 + STILL, x=201)


def test_one_that_begins_late_is_not_waited_for() -> None:
    alone = Alone()
    assert not alone.look(10.0, x=0)
    assert alone.look(10.0 + STILL, x=0)


def test_a_device_that_does_not_answer_says_nothing_of_growth() -> None:
    alone = Alone("xy")
    assert not alone.look(10.0, x=100, y=100)
    assert not alone.look(10.0 + 2 * STILL, x=100, y=None)
    assert alone.look(10.0 + 2 * STILL, x=100, y=100)


def test_growth_on_any_of_its_devices_counts() -> None:
    alone = Alone("xy")
    assert not alone.look(10.0, x=100, y=100)
    assert not alone.look(10.0 + STILL, x=100, y=200)
    assert alone.look(10.0 + 2 * STILL, x=100, y=200)


def test_where_nothing_is_told_apart_all_that_is_in_use_counts() -> None:
    alone = Alone()
    for at, used, may in ((10.0, 0, False), (12.0, 900, False), (13.0, 900, False), (14.0, 900, True)):
        alone.loading.see(at, [DeviceReading(device=DeviceId("x"), used=used * MIB)])
        assert ("a" in alone.line.begun) == may


def test_a_second_one_is_watched_from_its_own_turn_on() -> None:
    alone = Alone()
    alone.line.leave("a")
    alone.line.enter("next", alone=True)
    assert not alone.look(10.0, x=0)
    alone.line.leave("slow")
    assert "next" in alone.line.begun
    assert alone.loading.gate.alone.keys() == {"next"}
    alone.look(10.0 + STILL, x=0)
    assert alone.loading.gate.alone.keys() == {"next"}


class Histories(RuleBasedStateMachine):
    """Any order of coming, going and sharing."""

    def __init__(self) -> None:
        super().__init__()
        self.line = Line(most=2)
        self.came: dict[str, tuple[frozenset[str], bool]] = {}
        self.here: list[str] = []
        self.still: set[str] = set()

    @rule(devices=st.sets(st.sampled_from("xyz"), min_size=1), alone=st.booleans())
    def enter(self, devices: set[str], alone: bool) -> None:
        name = str(len(self.came))
        self.came[name] = frozenset(devices), alone
        self.here.append(name)
        self.line.enter(name, "".join(devices), alone=alone)

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        if self.here:
            name = data.draw(st.sampled_from(self.here))
            self.here.remove(name)
            self.line.leave(name)

    @rule(data=st.data())
    def share(self, data: st.DataObject) -> None:
        inside = self._inside()
        if inside:
            name = data.draw(st.sampled_from(inside))
            self.still.add(name)
            self.line.share(name)

    def _inside(self) -> list[str]:
        return [name for name in self.here if name in self.line.begun]

    def _loading(self) -> list[str]:
        """Those inside of which the bytes still grow."""
        return [name for name in self._inside() if name not in self.still]

    @invariant()
    def never_too_many_and_nobody_beside_one_that_is_alone(self) -> None:
        inside = self._loading()
        for device in "xyz":
            assert sum(device in self.came[name][0] for name in inside) <= 2
        for one, other in combinations(inside, 2):
            if self.came[one][1] or self.came[other][1]:
                assert self.came[one][0].isdisjoint(self.came[other][0])

    @invariant()
    def nobody_is_called_twice_or_overtaken_or_left_standing(self) -> None:
        begun = self.line.begun
        assert len(begun) == len(set(begun))
        waiting = [name for name in self.here if name not in begun]
        assert list(self.line.gate.waiting) == waiting
        for name in waiting:
            mine, alone = self.came[name]
            ahead = [other for other in waiting if int(other) < int(name) and self.came[other][0] & mine]
            inside = [other for other in self._loading() if self.came[other][0] & mine]
            full = any(sum(device in self.came[other][0] for other in inside) >= 2 for device in mine)
            kept_out = full or (alone and inside) or any(self.came[other][1] for other in inside)
            assert ahead or kept_out, f"{name} waits for nothing"


TestHistories = Histories.TestCase
