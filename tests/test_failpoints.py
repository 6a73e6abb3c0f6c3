"""Places where lmxd can be made to fail: named, each in the code, and nothing where none is asked for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lmxd import failpoints
from lmxd.failpoints import FALLIBLE, PLACES, Failpoints

PACKAGE = Path(failpoints.__file__).parent


def test_every_place_is_in_the_code() -> None:
    text = "".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    used = set(re.findall(r'hit(?:\(|, )"(\w+)"', text))
    assert used == PLACES
    assert len(PLACES) >= 20


@pytest.mark.parametrize(
    "wanted", ["nowhere:kill", "loaded", "loaded:", "loaded:burn", "loaded:kill@x", "loaded:error", ":kill"]
)
def test_what_means_nothing_is_refused(wanted: str) -> None:
    with pytest.raises(ValueError, match=r"write NAME:kill.* names: .*commit_begin"):
        Failpoints(wanted)


def test_an_error_at_its_turn() -> None:
    points = Failpoints("commit_begin:error@2, before_spawn:error")
    points.hit("commit_begin")
    with pytest.raises(OSError, match="failpoint commit_begin"):
        points.hit("commit_begin")
    points.hit("commit_begin")
    for _ in range(2):
        with pytest.raises(OSError, match="failpoint before_spawn"):
            points.hit("before_spawn")
    for place in PLACES - {"commit_begin", "before_spawn"}:
        points.hit(place)
    assert FALLIBLE < PLACES
