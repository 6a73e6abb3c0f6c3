"""Lines that others cause are few, and none is left out without being counted."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from lmxd.throttle import MOST, MOST_TOGETHER, WINDOW, Throttle

CALLS = st.lists(st.tuples(st.integers(0, 3), st.floats(0, 3)), max_size=300)


@given(CALLS)
def test_each_has_its_lines_and_the_others_are_counted(calls: list[tuple[int, float]]) -> None:
    throttle, now = Throttle(most=5, window=10.0), 0.0
    passed: Counter[object] = Counter()
    counted: Counter[object] = Counter()
    lines: list[tuple[int, float]] = []
    for key, pause in calls:
        now += pause
        counted.update(throttle.due(now))
        if throttle.passes(key, now):
            passed[key] += 1
            lines.append((key, now))
    counted.update(throttle.end())
    assert passed + counted == Counter(key for key, _ in calls)
    for key, at in lines:
        assert sum(k == key and at - 10 < t <= at for k, t in lines) <= 2 * 5, "a window is over, and the next begins"


def test_a_window_is_over_after_its_time() -> None:
    throttle = Throttle()
    assert [throttle.passes("a", 1.0) for _ in range(MOST + 2)] == [True] * MOST + [False] * 2
    assert throttle.passes("b", 1.0)
    assert throttle.due(WINDOW) == {}
    assert throttle.due(throttle.ends) == {"a": 2}
    assert throttle.passes("a", throttle.ends)


def test_thousands_of_names_share_one_bound() -> None:
    throttle = Throttle(most=1, together=10_000)
    passed = sum(throttle.passes(n, 0.0) for n in range(5000))
    assert passed == 1025
    assert throttle.end() == {None: 5000 - 1025}


def test_many_names_have_few_lines_together() -> None:
    """An address for each line wrote without end; and what was left out is few lines, too."""
    throttle = Throttle()
    passed = sum(throttle.passes(n % 1000, 0.0) for n in range(100_000))
    assert passed == MOST_TOGETHER
    left_out = throttle.end()
    assert sum(left_out.values()) == 100_000 - passed
    assert len(left_out) <= MOST_TOGETHER / MOST + 1
    assert throttle.passes("another", 0.0)
