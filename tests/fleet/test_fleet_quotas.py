"""Requests of users with limits over the fleet: who is let in, who waits, and who is refused as lmxd refuses it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from waiting import turns

from fleet.reported import GIB, beat, card
from lmxd.errors import LmxdError
from lmxd.fleet.choosing.prospects import Sought
from lmxd.fleet.choosing.shares import FleetShares
from lmxd.fleet.choosing.table import NodeTable
from lmxd.fleet.finding.quotas import FleetQuotas
from lmxd.fleet.finding.wanted import WantedAnswer
from lmxd.fleet.reports import UserUse
from lmxd.fleet.users import FleetUserConfig
from lmxd.gateway.leasing.progress import RequestProgress
from lmxd.gateway.leasing.stated import Stated


class Gate:
    """A fleet of one node with a model of 8 GiB for two, and the limits of its users."""

    def __init__(self, **users: dict[str, Any]) -> None:
        self.now, self.number, self.table = 100.0, 0, NodeTable()
        self.table.hear_card(card("n1", {"m": 8}))
        limits = {name: FleetUserConfig.model_validate(each) for name, each in users.items()}
        self.quotas = FleetQuotas(limits, FleetShares(self.table), lambda: self.now)
        self.told: list[RequestProgress] = []
        self.served: list[str] = []
        """The users of ``begun`` that were let in, in order."""
        self.hear()

    def hear(self, **users: UserUse) -> None:
        self.number += 1
        self.table.hear(beat("n1", self.number, self.now, users=users), self.now)
        self.quotas.heard()

    @contextlib.asynccontextmanager
    async def request(self, user: str | None = "ada", wait: float | None = 60.0) -> AsyncIterator[WantedAnswer]:
        """One that a node serves from then on."""
        wanted = WantedAnswer(sought=Sought(model="m"), user=user, wait=wait, since=self.now)
        async with self.quotas.let_in(wanted, self.told.append) as placed:
            placed.asked("n1", self.now)
            yield placed

    async def refused(self, user: str = "ada", wait: float | None = 0.0) -> LmxdError:
        with pytest.raises(LmxdError) as caught:
            async with self.request(user, wait):
                pass
        return caught.value

    def begun(self, user: str = "ada", wait: float | None = 60.0) -> tuple[asyncio.Task[None], asyncio.Event]:
        """A request that goes on until the event is set."""
        end = asyncio.Event()

        async def serve() -> None:
            async with self.request(user, wait):
                self.served.append(user)
                await end.wait()

        return asyncio.get_running_loop().create_task(serve()), end


async def test_who_has_no_limit_is_let_in_and_has_no_place() -> None:
    gate = Gate(ada={"weight": 3})
    for user in ("ada", "bob", None):
        async with gate.request(user, 0.0) as wanted:
            assert wanted.place is None


async def test_one_more_than_the_most_leases_is_refused_as_lmxd_does() -> None:
    gate = Gate(ada={"max_leases": 2})
    async with gate.request(), gate.request(), gate.request("bob"):
        error = await gate.refused()
        assert (error.code, error.message) == ("over_quota", "key ada of the fleet has 2 of at most 2 leases")
        assert "max_leases in users:" in error.remedy
    async with gate.request(wait=0.0):
        pass


async def test_bytes_count_by_the_slots_of_a_model() -> None:
    gate = Gate(ada={"max_memory_gb": 9}, bob={"max_memory_gb": 3})
    async with gate.request(), gate.request():
        error = await gate.refused()
        assert error.code == "over_quota"
        assert error.message == "key ada of the fleet holds 8.00 of at most 9.00 GiB, and this takes 4.00"
    error = await gate.refused("bob", 60.0)
    assert (error.code, "ask for less" in error.remedy) == ("over_quota", True), "waiting would be in vain"


async def test_nobody_with_no_lease_waits_for_one() -> None:
    error = await Gate(ada={"max_leases": 0}).refused(wait=None)
    assert (error.code, error.message) == ("over_quota", "key ada of the fleet has 0 of at most 0 leases")


async def test_the_default_is_for_all_who_have_no_part_of_their_own() -> None:
    gate = Gate(default={"max_leases": 1}, ada={})
    async with gate.request("ada"), gate.request("ada"), gate.request("bob"), gate.request("eve"):
        assert (await gate.refused("bob")).code == "over_quota"


async def test_who_waits_is_let_in_in_order_when_one_has_ended() -> None:
    gate = Gate(ada={"max_leases": 1})
    first, ends = gate.begun()
    await turns(20)
    waiting = [gate.begun() for _ in range(3)]
    await turns(20)
    assert gate.served == ["ada"]
    assert gate.told[-1].why == "key ada of the fleet has 1 of at most 1 leases"
    for n, end in enumerate(end for _, end in waiting):
        ends.set()
        await turns(20)
        assert len(gate.served) == n + 2, "one at a time"
        ends = end
    ends.set()
    await asyncio.gather(first, *(task for task, _ in waiting))


async def test_who_waited_as_long_as_it_would_is_told_why() -> None:
    gate = Gate(ada={"max_leases": 1})
    async with gate.request():
        wanted = asyncio.get_running_loop().create_task(gate.refused(wait=5.0))
        await turns(20)
        gate.now += 6
        gate.hear(ada=UserUse(leases=1, bytes=4 * GIB))
        error = await wanted
    assert error.code == "wait_expired"
    assert error.message == "the request waited as long as it would: key ada of the fleet has 1 of at most 1 leases"


async def test_no_more_wait_than_may_and_the_next_is_refused_at_once() -> None:
    gate = Gate(ada={"max_leases": 1, "max_waiting": 1})
    first, ends = gate.begun()
    await turns(20)
    second, end = gate.begun()
    await turns(20)
    error = await gate.refused(wait=60.0)
    assert error.code == "too_many_waiting"
    assert "has 1 request waiting already, which is the most it may have" in error.message
    ends.set()
    end.set()
    await asyncio.gather(first, second)
    assert gate.served == ["ada", "ada"]


async def test_requests_in_the_queues_of_nodes_count_as_waiting() -> None:
    gate = Gate(ada={"max_waiting": 1})
    async with gate.request() as one, gate.request() as two:
        one.waits_at("n1", gate.now)
        with pytest.raises(LmxdError, match="waiting already") as caught:
            two.waits_at("n1", gate.now)
        assert caught.value.code == "too_many_waiting"
        one.asked("n1", gate.now)
        two.waits_at("n1", gate.now)


async def test_what_others_let_in_counts_and_is_waited_for() -> None:
    gate = Gate(ada={"max_leases": 1})
    gate.hear(ada=UserUse(leases=1, bytes=GIB))
    task, end = gate.begun()
    await turns(20)
    assert gate.served == []
    gate.now += 1
    gate.hear()
    await turns(20)
    assert gate.served == ["ada"]
    end.set()
    await task


async def test_who_leaves_the_line_leaves_nothing_behind() -> None:
    gate = Gate(ada={"max_leases": 1, "max_waiting": 1})
    first, ends = gate.begun()
    await turns(20)
    gone, _ = gate.begun()
    await turns(20)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    last, end = gate.begun()
    ends.set()
    end.set()
    await asyncio.gather(first, last)
    assert gate.served == ["ada", "ada"]


async def test_a_node_is_told_the_weight_and_the_use_at_others() -> None:
    gate = Gate(ada={"weight": 3})
    gate.hear(ada=UserUse(use=7), bob=UserUse(use=5))
    assert gate.quotas.stated("ada", "n2", 1.5) == Stated(waited=1.5, used_elsewhere=7, weight=3)
    assert gate.quotas.stated("ada", "n1", 0) == Stated(used_elsewhere=0, weight=3)
    assert gate.quotas.stated("bob", "n2", 0) == Stated(used_elsewhere=5), "its weight is the node's to say"
    assert gate.quotas.stated(None, "n2", 2) == Stated(waited=2)


async def test_limits_that_are_read_anew_count_for_requests_that_wait() -> None:
    gate = Gate(ada={"max_leases": 1})
    first, end = gate.begun()
    waiting = [gate.begun() for _ in range(2)]
    await turns(5)
    assert (gate.served, gate.quotas.here()["ada"].waiting) == (["ada"], 2)
    gate.quotas.replace({"ada": FleetUserConfig(max_leases=2)})
    await turns(5)
    assert len(gate.served) == 2
    gate.quotas.replace({})
    await turns(5)
    assert len(gate.served) == 3, "who has no limit any more waits for none"
    for one, told in (first, end), *waiting:
        told.set()
        await one


async def test_a_user_who_may_have_nothing_any_more_is_refused_at_once() -> None:
    gate = Gate(ada={"max_leases": 1})
    async with gate.request():
        refused = asyncio.get_running_loop().create_task(gate.refused(wait=60.0))
        await turns(5)
        gate.quotas.replace({"ada": FleetUserConfig(max_leases=0)})
        assert (await refused).code == "over_quota"
        assert "0 of at most 0 leases" in (await refused).message
