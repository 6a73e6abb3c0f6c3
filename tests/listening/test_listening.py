"""The connections of a listener: who goes when there are too many."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmxd.errors import LmxdError
from lmxd.listening.connections import Connections


@dataclass(eq=False)
class Line:
    """A connection that notes in ``gone`` that it was cut."""

    client: Hashable
    gone: list[Line]
    busy: bool = False
    caller: str | None = None

    def cut(self) -> None:
        self.gone.append(self)


@dataclass
class Crowd:
    """The connections of some clients."""

    strangers: int = 4
    known: int = 8
    now: float = 0.0
    gone: list[Line] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.connections = Connections(strangers=self.strangers, known=self.known, now=lambda: self.now)

    def come(self, client: Hashable = "x", caller: str | None = None, *, busy: bool = False) -> Line:
        line = Line(client, self.gone, busy=busy)
        self.connections.admit(line)
        if caller is not None:
            self.connections.recognize(line, caller)
            line.caller = caller
        return line


def test_of_too_many_strangers_the_oldest_goes_of_the_client_that_has_the_most() -> None:
    crowd = Crowd()
    alone = crowd.come("one")
    many = [crowd.come("many") for _ in range(6)]
    assert crowd.gone == many[:3]
    last = crowd.come("another")
    assert crowd.gone == many[:4]
    assert alone not in crowd.gone
    assert last not in crowd.gone


def test_who_shows_a_key_is_no_stranger_any_more() -> None:
    crowd = Crowd()
    known = [crowd.come("x", "alice") for _ in range(3)]
    for _ in range(20):
        crowd.come("x")
    assert not set(map(id, known)) & set(map(id, crowd.gone))


def test_a_caller_has_at_most_half_and_its_idle_ones_go_first() -> None:
    crowd = Crowd()
    idle = [crowd.come("x", "alice") for _ in range(4)]
    crowd.come("x", "alice", busy=True)
    assert crowd.gone == idle[:1]
    crowd.come("x", "bob")
    assert crowd.gone == idle[:1]


def test_a_caller_whose_requests_are_all_being_answered_is_refused_and_no_other() -> None:
    crowd = Crowd()
    for _ in range(4):
        crowd.come("x", "alice", busy=True)
    with pytest.raises(LmxdError) as caught:
        crowd.come("x", "alice")
    assert caught.value.code == "too_many"
    crowd.come("x", "bob")
    assert crowd.gone == []


def test_many_closings_are_one_line_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    crowd = Crowd()
    for _ in range(1000):
        crowd.come()
    assert len(caplog.records) == 1
    crowd.now = 61.0
    crowd.come()
    assert [r.args for r in caplog.records][1] == ("more than 4 had sent no key", 996)


@pytest.mark.parametrize(("descriptors", "most"), [(1024, 640), (4096, 1024), (65536, 1024)])
def test_a_crowd_that_comes_at_once_is_heard(descriptors: int, most: int) -> None:
    """Each has its answer, also where its caller has too many: nobody is cut off before its key is read."""
    crowd = Crowd()
    crowd.connections = Connections.within(descriptors)
    lines = [crowd.come("one") for _ in range(most)]
    answered = refused = 0
    for line in lines:
        try:
            crowd.connections.recognize(line, "alice")
        except LmxdError as error:
            assert error.code == "too_many"
            refused += 1
            crowd.connections.leave(line)
        else:
            line.busy, answered = True, answered + 1
        assert crowd.gone == []
    assert (answered > 100, answered + refused) == (True, most)


def test_strangers_give_back_the_descriptors_that_callers_need() -> None:
    crowd = Crowd()
    crowd.connections = Connections.within(1024)
    silent = [crowd.come("many") for _ in range(896)]
    for n in range(200):
        crowd.come("x", f"k{n}", busy=True)
        assert crowd.connections.strangers + 3 * (n + 1) <= 896
    assert crowd.gone == silent[: len(crowd.gone)]


@given(
    steps=st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from([None, "k", "l", "m"]), st.booleans(), st.booleans()),
        max_size=60,
    )
)
def test_there_are_never_more_than_allowed_and_none_is_forgotten(
    steps: list[tuple[str, str | None, bool, bool]],
) -> None:
    crowd, here = Crowd(), list[Line]()
    for client, caller, busy, leaves in steps:
        try:
            here.append(crowd.come(client, caller, busy=busy))
        except LmxdError:
            assert caller is not None
        if leaves and here:
            crowd.connections.leave(here.pop(0))
        assert crowd.connections.strangers <= crowd.strangers
        assert len(crowd.connections) <= crowd.strangers + crowd.known
        assert not [x for x in crowd.gone if x.busy and x.caller is not None]
    for line in here:
        crowd.connections.leave(line)
        crowd.connections.leave(line)


def test_descriptors_suffice_for_all_and_their_engines() -> None:
    connections = Connections.within(1024)
    lines = Crowd()
    lines.connections = connections
    for n in range(5000):
        try:
            lines.come("x", f"k{n % 7}", busy=True)
        except LmxdError:
            break
    for _ in range(5000):
        lines.come("y")
    assert connections.strangers + 2 * (len(connections) - connections.strangers) < 1024 - 100
