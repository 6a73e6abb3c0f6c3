"""The slots that would have let a request in, which are said only where they would."""

from __future__ import annotations

import pytest

from lmxd.cli.hints import more_slots
from lmxd.rpc.books import InstanceInfo, LeaseInfo


def taken(ctx: int, most: int | None) -> InstanceInfo:
    """An instance of one slot, which has a lease."""
    lease = LeaseInfo(bytes=1, slots=1, lease="l-1", uid=0, pid=1, user=None, hold="explicit", age=0, expires_in=None)
    return InstanceInfo(
        instance="m#1", model="m", phase="ready", ctx=ctx, ctx_most=most, slots=1, busy=False, idle=0,
        idle_timeout=300, age=0, promised={}, charged={}, leases=[lease],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("ctx", "most", "asked", "hinted"),
    [
        (2048, None, None, True),
        (2048, None, 1024, True),
        (2048, None, 4096, False),
        (256, 2048, None, True),
        (256, 2048, 256, True),
        (256, 2048, 2048, False),
        (2048, 2048, 2048, False),
    ],
)
def test_slots_let_in_who_asks_for_no_more_context_than_they_have(
    ctx: int, most: int | None, asked: int | None, hinted: bool
) -> None:
    assert (more_slots([taken(ctx, most)], "m", ctx=asked) is not None) == hinted


def test_one_cache_for_all_lets_nobody_in_who_may_use_all_of_it() -> None:
    assert more_slots([taken(256, 2048).model_copy(update={"unified": True})], "m") is None
