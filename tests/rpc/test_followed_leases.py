"""Where the leases of a connection are: also of one that moved while nobody could tell it."""

from __future__ import annotations

import pytest

from lmxd.rpc.client.following import FollowedLeases
from lmxd.rpc.messages import Granted, Renewed


def granted(instance: str, ctx: int) -> Granted:
    said = {"lease": "l-1", "model": "m", "endpoint": "", "base_url": "", "api_key": "", "slots": 1, "devices": {}}
    return Granted.model_validate(
        said | {"basis": "", "hold": "connection", "waited": 0, "instance": instance, "ctx": ctx}
    )


@pytest.mark.parametrize(("ctx", "why"), [(2048, "grown"), (512, "shrunk"), (1024, "returned")])
def test_a_move_that_was_missed_is_told_with_its_reason(ctx: int, why: str) -> None:
    leases: FollowedLeases[Granted] = FollowedLeases()
    leases.took(granted("m#1", 1024))
    told = leases.renewed(Renewed(lease="l-1", moved=granted("m#2", ctx)))
    assert told is not None
    assert (told.before, told.why) == ("m#1", why)
    assert leases.present("l-1").instance == "m#2"
