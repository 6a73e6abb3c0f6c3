"""Leases that are used again: for a moment, by whom they are for, and only as long as nobody waits."""

from __future__ import annotations

from typing import Any

import pytest
from waiting import until

from lmxd.gateway.leasing.spare_leases import SpareLeases
from lmxd.rpc.client import AsyncLease


def lease(name: str, *, wanted: bool = False, at: str = "m#1") -> AsyncLease:
    return AsyncLease(
        lease=name, instance=at, model="m", endpoint="http://x", base_url="http://x/v1", api_key="k", ctx=1, slots=1,
        devices={}, basis="declared", hold="connection", waited=0, wanted=wanted,
    )  # fmt: skip


class Clock:
    """A time that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Spares:
    """Spare leases with the names of those that were given back."""

    def __init__(self) -> None:
        self.clock, self.back = Clock(), list[str]()
        self.spare = SpareLeases(lambda gone: self.back.append(gone.lease), self.clock)

    def use(self, name: str, kind: Any = "a", *, wanted: bool = False, at: str = "m#1") -> AsyncLease:
        granted = lease(name, wanted=wanted, at=at)
        self.spare.granted(granted, self.spare.calls)
        self.spare.put(kind, granted)
        return granted


@pytest.fixture
async def spares() -> Spares:
    return Spares()


async def test_the_next_request_of_a_kind_has_the_lease_of_the_last(spares: Spares) -> None:
    one = spares.use("one")
    assert spares.spare.take("b") is None
    assert spares.spare.take("a") is one
    assert spares.spare.take("a") is None, "it is in use"
    assert spares.back == []


async def test_who_is_to_be_near_an_instance_has_the_lease_there_alone(spares: Spares) -> None:
    one, two = spares.use("one"), spares.use("two", at="m#2")
    assert spares.spare.take("a", "m#3") is None
    assert spares.spare.take("a", "m#1") is one
    assert spares.spare.take("a", "m#1") is None
    assert spares.spare.take("a", "m#2") is two
    assert spares.back == []


async def test_one_that_was_kept_for_a_moment_is_given_back(spares: Spares) -> None:
    spares.use("one")
    spares.clock.now = 0.03
    assert spares.spare.take("a") is None
    assert spares.back == ["one"]


async def test_nobody_needs_to_ask_for_it_to_be_given_back(spares: Spares) -> None:
    spares.use("one")
    spares.clock.now = 1.0
    await until(lambda: spares.back)
    assert spares.back == ["one"]


async def test_it_is_not_used_for_ever(spares: Spares) -> None:
    one = spares.use("one")
    for _ in range(200):
        spares.clock.now += 0.011
        if spares.spare.take("a") is None:
            break
        spares.spare.put("a", one)
    assert spares.back == ["one"]
    assert 2 <= spares.clock.now < 2.1


async def test_where_somebody_waits_each_is_for_one_request(spares: Spares) -> None:
    spares.use("one", wanted=True)
    assert spares.back == ["one"]
    spares.use("two")
    in_use = lease("three")
    spares.spare.granted(in_use, spares.spare.calls)
    spares.spare.wanted()
    assert spares.back == ["one", "two"]
    spares.spare.put("a", in_use)
    assert spares.back == ["one", "two", "three"]


async def test_who_asks_for_another_kind_may_want_what_they_hold(spares: Spares) -> None:
    spares.use("one")
    spares.use("two", "b")
    spares.spare.give_back()
    assert sorted(spares.back) == ["one", "two"]
    assert spares.spare.take("a") is None


async def test_what_has_ended_is_neither_used_nor_given_back(spares: Spares) -> None:
    spares.use("one")
    spares.spare.ended("one")
    assert spares.spare.take("a") is None
    assert spares.back == []


async def test_who_is_said_to_wait_right_behind_a_grant_is_heard(spares: Spares) -> None:
    """Both are read at once: the word that somebody waits comes first to where leases are kept."""
    before, one = spares.spare.calls, lease("one")
    spares.spare.wanted()
    spares.spare.granted(one, before)
    spares.spare.put("a", one)
    assert spares.back == ["one"]
