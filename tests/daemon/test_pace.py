"""Tokens a second, from one look to the next."""

from __future__ import annotations

from lmxd.daemon.launching.launched import Pace
from lmxd.engines.engine import Activity


def test_each_request_gets_a_token_a_step() -> None:
    pace = Pace()
    pace.see(10.0, Activity(busy=True, work=0, processing=4, decoded=100))
    assert pace.speed == 0, "one look is no speed"
    pace.see(12.0, Activity(busy=True, work=0, processing=4, decoded=150))
    assert pace.speed == 100
    pace.see(13.0, Activity(busy=False, work=0, processing=0, decoded=150))
    assert (pace.speed, pace.processing) == (0, 0)


def test_looks_are_not_taken_more_often_than_they_are_worth() -> None:
    pace = Pace()
    assert pace.stale(10.0)
    assert not pace.stale(10.5)
    assert pace.stale(11.5)
    pace.see(12.0, Activity(busy=False, work=0))
    assert not pace.stale(12.5)
