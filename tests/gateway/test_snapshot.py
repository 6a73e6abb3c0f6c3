"""What the dashboard shows of whom: names for administrators, places for all."""

from __future__ import annotations

from typing import Any

import pytest

from lmxd.gateway.board.snapshot import for_all, snapshot
from lmxd.rpc.books import Device, InstanceInfo, LeaseInfo, MovingInfo, Status, TicketInfo
from lmxd.rpc.overview import Overview
from lmxd.rpc.owners import OwnerInfo, ProcessInfo, Why

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
    seen = Overview(status=STATUS, owners=[], instances=[running], queue=[waiting])
    return snapshot(seen, [], 0.0, named=lambda uid: {990: "lmxd-gateway"}[uid])


@pytest.mark.parametrize(
    ("who", "users", "user"),
    [
        ({"uid": 990, "user": "anna"}, ["key anna"], "key anna"),
        ({"uid": 990}, ["lmxd-gateway"], "lmxd-gateway"),
        ({}, [], None),
    ],
)
def test_whose_they_are(who: dict[str, Any], users: list[str], user: str | None) -> None:
    found = shown(**who)
    assert (found["instances"][0]["users"], found["queue"][0]["user"]) == (users, user)


def test_leases_that_move_are_counted() -> None:
    moving = MovingInfo(bytes=1, slots=1, model="a", before="a#1", ctx=512, ctx_wanted=1024)
    seen = Overview(status=STATUS, owners=[], instances=[], moving=[moving], queue=[])
    assert for_all(snapshot(seen, [], 0.0))["moving"] == 1


def test_others_see_no_names() -> None:
    found = for_all(shown(uid=990, user="anna"))
    assert (found["instances"][0]["users"], found["queue"][0]["user"]) == ([], None)
    assert "anna" not in str(found)


def test_others_see_neither_whose_quota_is_used_up_nor_whom_a_warning_names() -> None:
    waits_for = (["key anna has 1 of at most 1 leases"], ["a#1", "b#1"])
    warnings = ["keys.anna: there is no key of that name in /etc/lmxd/keys"]
    tickets = [TicketInfo(bytes=1, position=n, waited=2, waits_for=x) for n, x in enumerate(waits_for, start=1)]
    status = STATUS.model_copy(update={"warnings": warnings})
    whole = snapshot(Overview(status=status, owners=[], instances=[], queue=tickets), [], 0.0, named=str)
    assert (whole["warnings"], [t["waits_for"] for t in whole["queue"]]) == (warnings, list(waits_for))
    found = for_all(whole)
    assert (found["warnings"], [t["waits_for"] for t in found["queue"]]) == (
        [],
        [["a quota is used up"], ["a#1", "b#1"]],
    )
    assert "anna" not in str(found)


def test_others_see_foreign_processes_as_one_part_and_each_part_by_a_name_of_its_own() -> None:
    """A page tells parts apart by their names: of two with the same name one was drawn again at each look."""
    device = Device(
        id="GPU-a", ref="0", kind="gpu", name="x", capacity=100, reserved=0, margin=10, limit=None, used=40, foreign=35,
        charged=5, reclaiming=0, headroom=50,
    )  # fmt: skip
    mine = OwnerInfo(instance="a#1", bytes=5, promised=5, measured=5, exited=False)
    foreign = [ProcessInfo(pid=n, name="game", bytes=10) for n in (1, 2, 3)]
    why = Why(device=device, instances=[mine], processes=foreign, withheld=0)
    whole = snapshot(Overview(status=STATUS, owners=[why], instances=[], queue=[]), [], 0.0, named=str)
    for found, names in (
        (whole, ["a#1", "game (1)", "game (2)", "game (3)", "others", "margin", "free"]),
        (for_all(whole), ["a#1", "others", "margin", "free"]),
    ):
        (parts,) = [d["parts"] for d in found["devices"]]
        assert [p["name"] for p in parts] == names
        assert sum(p["bytes"] for p in parts) == device.capacity
