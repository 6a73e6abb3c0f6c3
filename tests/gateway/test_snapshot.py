"""What the dashboard shows of whom: names for administrators, places for all."""

from __future__ import annotations

from typing import Any

import pytest

from lmxd.gateway.snapshot import for_all, snapshot
from lmxd.rpc.books import InstanceInfo, LeaseInfo, Status, TicketInfo

STATUS = Status(
    version="1", uptime=1, engine="x", admission=True, draining=False, devices=[], instances=1, leases=1, waiting=1,
    queue_depth=512,
)  # fmt: skip


def shown(**who: Any) -> dict[str, Any]:
    """A lease and a ticket of the same user."""
    figures: dict[str, Any] = {"promised": {}, "charged": {}, "idle": 0, "idle_timeout": 300, "age": 1}
    leases = [LeaseInfo(bytes=1, slots=1, **who)]
    running = InstanceInfo(
        instance="a#1", model="a", phase="ready", ctx=1, slots=1, busy=True, leases=leases, **figures
    )
    waiting = TicketInfo(bytes=1, position=1, waited=2, **who)
    return snapshot(STATUS, [], [running], [waiting], named=lambda uid: {990: "lmxd-gateway"}[uid])


@pytest.mark.parametrize(
    ("who", "users", "user"),
    [
        ({"uid": 990, "user": "anna"}, ["anna (lmxd-gateway)"], "anna (lmxd-gateway)"),
        ({"uid": 990}, ["lmxd-gateway"], "lmxd-gateway"),
        ({}, [], None),
    ],
)
def test_whose_they_are(who: dict[str, Any], users: list[str], user: str | None) -> None:
    found = shown(**who)
    assert (found["instances"][0]["users"], found["queue"][0]["user"]) == (users, user)


def test_others_see_no_names() -> None:
    found = for_all(shown(uid=990, user="anna"))
    assert (found["instances"][0]["users"], found["queue"][0]["user"]) == ([], None)
    assert "anna" not in str(found)
