"""The audit log: who did what and what came of it, a line each, whatever is in the names, and no flood of them."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from house import House, Registered

from lmxd.acts import MOST_DONE
from lmxd.errors import LmxdError
from lmxd.log_lines import LineFormatter
from lmxd.rpc import server
from lmxd.rpc.methods import METHODS
from lmxd.rpc.peer import Peer
from lmxd.throttle import MOST

HALF = {"estimated_memory_gb": 0.4}
ANNA, BEN, STRANGER, MEMBERS = 2001, 2002, 2004, 3001
PID = os.getpid()
Lines = Callable[[], list[str]]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    """The lines that the audit log has."""
    caplog.set_level(logging.INFO, "lmxd.audit")
    form = LineFormatter("%(levelname)s %(message)s")
    return lambda: "\n".join(form.format(r) for r in caplog.records if r.name == "lmxd.audit").split("\n")


def become(monkeypatch: pytest.MonkeyPatch, uid: int, *gids: int) -> None:
    monkeypatch.setattr(server, "peer_of", lambda sock: Peer(PID, uid, uid, frozenset((uid, *gids))))


def shared(tmp_path: Path) -> House:
    return House(tmp_path, gpu={"device": "host", "max_memory_gb": 1}, models={"a": HALF, "b": HALF})


def as_the_systems(h: House) -> None:
    h.daemon.access.shared, h.daemon.access.members = True, MEMBERS
    h.daemon.access.users = Registered()


async def refused(call: Any) -> None:
    with pytest.raises(LmxdError):
        await call


async def test_every_act_has_a_line_with_who_and_what_came_of_it(
    tmp_path: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shared(tmp_path).open() as h:
        as_the_systems(h)
        become(monkeypatch, ANNA, MEMBERS)
        async with h.client() as anna:
            lease = await anna.request("a")
            held = await anna.hold(2**20, name="mine", hold="explicit")
            become(monkeypatch, BEN, MEMBERS)
            async with h.client() as ben:
                for call in (ben.release(lease.lease), ben.renew(lease.lease), ben.adopt(held.lease, PID)):
                    await refused(call)
                await refused(ben.cancel(ticket="t-none"))
                await refused(ben.yield_(2**20))
                await refused(ben.unyield("y-1"))
                await refused(ben.stop(lease.instance))
                await refused(ben.forget(model="a"))
            await anna.renew(lease.lease)
            await anna.release(lease.lease)
            await refused(anna.adopt(held.lease, 2**22))
        become(monkeypatch, STRANGER)
        async with h.client(patience=0) as stranger:
            await refused(stranger.status())
    found = lines()
    hers, his = f"uid {ANNA} pid {PID}", f"uid {BEN} pid {PID}"
    for said in (
        f"INFO grant {lease.lease} on a#1 to {hers}",
        f"WARNING {his} refused (not_permitted): release {lease.lease}: lease {lease.lease} belongs to another user",
        f"WARNING {his} refused (not_permitted): renew {lease.lease}: lease {lease.lease} belongs to another user",
        f"WARNING {his} refused (not_permitted): have {held.lease} adopt pid {PID}: ",
        f"INFO {his} refused (unknown_ticket): cancel t-none: there is no request t-none",
        f"WARNING {his} refused (not_permitted): have {2**20} bytes of device  yielded: ",
        f"WARNING {his} refused (not_permitted): end the yield y-1: ",
        f"WARNING {his} refused (not_permitted): stop a#1: ",
        f"WARNING {his} refused (not_permitted): forget what was learned, model: a, card: : ",
        f"INFO {hers} done: release {lease.lease}",
        f"INFO end {lease.lease} on a#1 of {hers}: released",
        f"INFO {hers} refused (invalid_params): have {held.lease} adopt pid {2**22}: ",
        f"WARNING uid {STRANGER} pid {PID} refused (not_permitted): connect",
    ):
        assert [line for line in found if line.startswith(said)], said
    assert not [line for line in found if "done: renew" in line], "it comes every few seconds"


def test_whatever_changes_something_is_an_act() -> None:
    in_memory = {"keep_alive"}  # what it changes is forgotten with the daemon
    assert {x.name for x in METHODS.values() if x.lasting or x.admin or x.grants} | in_memory == {
        x.name for x in METHODS.values() if x.act
    }


FORGED = "x\nINFO uid 0 pid 1 done: stop a#1\r\n\x1b[2K\x9b1A\u2028INFO grant l-1 on a#1 to uid 0 pid 1\u202e\udcff\\n"


async def test_names_forge_no_lines(tmp_path: Path, lines: Lines) -> None:
    async with shared(tmp_path).open() as h, h.client() as lmxd:
        text = FORGED.replace("\udcff", "")  # JSON has none that UTF-8 has not
        calls = (lmxd.request, lmxd.release, lmxd.stop, lmxd.unyield, lmxd.pin, lmxd.renew)
        for call in calls:
            await refused(call(text))
        await refused(lmxd.cancel(ticket=text))
        await refused(lmxd.hold(2**50, name="x" * 4000))
    found = [line for line in lines() if line]
    assert all(line.isprintable() for line in found)
    assert len([line for line in found if "refused" in line]) == len(calls) + 1
    assert not [line for line in found if line.startswith(("INFO uid 0 pid 1 ", "INFO grant l-1 "))]


async def test_a_flood_of_refusals_is_counted_and_others_are_still_seen(
    tmp_path: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shared(tmp_path).open() as h:
        as_the_systems(h)
        become(monkeypatch, ANNA, MEMBERS)
        async with h.client() as anna, h.client() as again:
            for n in range(MOST):
                await asyncio.gather(*(refused(x.release(f"l-{n}")) for x in (anna, again)))
            lease = await anna.request("a")
            await anna.release(lease.lease)
            become(monkeypatch, BEN, MEMBERS)
            async with h.client() as ben:
                await refused(ben.drain())
    found = lines()
    assert len([line for line in found if f"uid {ANNA} pid {PID} refused" in line]) == MOST
    assert [line for line in found if f"uid {BEN} pid {PID} refused (not_permitted): drain" in line]
    assert f"INFO uid {ANNA} pid {PID} done: release {lease.lease}" in found
    assert found[-1] == f"WARNING uid {ANNA}: {MOST} more in a minute are not listed"


async def test_a_flood_of_acts_is_counted_and_others_are_still_seen(
    tmp_path: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shared(tmp_path).open() as h:
        as_the_systems(h)
        become(monkeypatch, ANNA, MEMBERS)
        async with h.client() as anna:
            for _ in range(MOST_DONE):
                await anna.release((await anna.hold(2**20, hold="explicit")).lease)
            await refused(anna.drain())
            become(monkeypatch, BEN, MEMBERS)
            async with h.client() as ben:
                lease = await ben.request("a")
                await ben.release(lease.lease)
    found = lines()
    hers = [line for line in found if f"uid {ANNA} pid {PID}" in line and "refused" not in line]
    assert len(hers) == MOST_DONE
    assert {line.split()[1] for line in hers} >= {"grant", "end", "uid"}, "what is bounded is every line about her acts"
    (counted,) = [line for line in found if line.startswith(f"WARNING uid {ANNA}: ")]
    assert counted == f"WARNING uid {ANNA}: {2 * MOST_DONE} more that were done in a minute are not listed"
    assert [line for line in found if f"uid {ANNA} pid {PID} refused (not_permitted): drain" in line]
    assert f"INFO uid {BEN} pid {PID} done: release {lease.lease}" in found
    assert [line for line in found if line.startswith(f"INFO grant {lease.lease} on a#1 to uid {BEN}")]
    assert f"WARNING instances of hold: {MOST_DONE} more that were done in a minute are not listed" in found
    assert len(found) < 2 * MOST_DONE + 20
