"""Where the leases of a connection are: also of one that moved while nobody could tell it."""

from __future__ import annotations

import pytest

from lmxd.rpc.client.following import FollowedLeases
from lmxd.rpc.messages import Granted, Renewed


def granted(instance: str, ctx: int) -> Granted:
    return Granted.model_construct(lease="l-1", instance=instance, ctx=ctx, hold="connection")


@pytest.mark.parametrize(("ctx", "why"), [(2048, "grown"), (512, "shrunk"), (1024, "returned")])
def test_a_move_that_was_missed_is_told_with_its_reason(ctx: int, why: str) -> None:
    leases: FollowedLeases[Granted] = FollowedLeases()
    leases.took(granted("m#1", 1024))
    told = leases.renewed(Renewed.model_construct(lease="l-1", expires_in=None, moved=granted("m#2", ctx)))
    assert told is not None
    assert (told.before, told.why) == ("m#1", why)
    assert leases.present("l-1").instance == "m#2"
